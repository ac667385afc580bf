//! The rules, by what they are about. Codes are never reused.

mod form;
mod limits;
mod numerics;
mod operations;
mod ports;
mod speed;
mod weights;

use crate::Rule;

/// Every rule, by code.
pub fn rules() -> impl Iterator<Item = &'static Rule> {
    let families: [&'static [Rule]; 7] = [
        form::RULES,
        ports::RULES,
        operations::RULES,
        limits::RULES,
        numerics::RULES,
        weights::RULES,
        speed::RULES,
    ];
    families.into_iter().flatten()
}

/// The rule with that code, in upper or lower case.
pub fn rule(code: &str) -> Option<&'static Rule> {
    rules().find(|rule| rule.code.eq_ignore_ascii_case(code))
}

/// The rule that a program which is not valid MIL breaks.
pub fn invalid() -> &'static Rule {
    &form::RULES[0]
}

pub(crate) use form::{POISON, required_operands};

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn codes_are_unique_sorted_and_found() {
        let codes: Vec<&str> = rules().map(|r| r.code).collect();
        assert!(codes.is_sorted(), "{codes:?}");
        assert_eq!(codes.iter().collect::<HashSet<_>>().len(), codes.len());
        for code in codes {
            assert!(code.len() == 6 && code.starts_with("ANE"), "{code}");
            assert_eq!(rule(&code.to_lowercase()).unwrap().code, code);
        }
        assert!(rule("ANE999").is_none());
    }

    #[test]
    fn every_rule_is_written_out() {
        for rule in rules() {
            for text in [rule.title, rule.what, rule.fix, rule.evidence] {
                assert!(text.len() > 15, "{}: {text}", rule.code);
            }
            assert!(!rule.title.ends_with('.') && rule.what.ends_with('.'), "{}", rule.code);
            assert!(rule.fix.ends_with('.') && rule.evidence.ends_with('.'), "{}", rule.code);
            assert!(rule.chips.0 <= rule.chips.1 && rule.systems.0 <= rule.systems.1);
        }
    }
}
