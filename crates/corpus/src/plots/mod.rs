//! The plots: what happens, as templates in the language of [`crate::grammar`].

mod courage;
mod friendship;
mod patience;
mod truth;

use crate::words::Thing;

/// One family of stories.
#[derive(Debug)]
pub(crate) struct Plot {
    /// What the family is called in tests.
    pub(crate) name: &'static str,
    /// What `{thing}` may be in this plot.
    pub(crate) things: &'static [Thing],
    /// The templates of the paragraphs, in order.
    pub(crate) paragraphs: &'static [&'static str],
}

pub(crate) const PLOTS: &[&Plot] = &[
    &friendship::LOST_TREASURE,
    &friendship::SHARED_MEAL,
    &friendship::BIRTHDAY_GIFT,
    &friendship::NEW_NEIGHBOR,
    &courage::FACED_FEAR,
    &courage::RESCUE,
    &courage::NIGHT_NOISE,
    &courage::BIG_STORM,
    &patience::NEW_SKILL,
    &patience::LITTLE_SEED,
    &patience::SLOW_RACE,
    &truth::BROKEN_TREASURE,
    &truth::QUARREL,
    &truth::FOUND_TREASURE,
];
