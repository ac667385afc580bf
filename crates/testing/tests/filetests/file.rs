//! The parts of a test file: settings in comments at its head, a program, and what is expected in
//! comments at its end.

const EXPECT: &str = "// expect:";

pub(crate) struct TestFile<'a> {
    /// The whole text without the expectation: comments are part of MIL text, so that errors give
    /// the lines of the file.
    pub(crate) source: &'a str,
    pub(crate) kind: &'a str,
    /// `// key: value` lines before the program.
    settings: Vec<(&'a str, &'a str)>,
    pub(crate) expected: Option<String>,
}

impl<'a> TestFile<'a> {
    pub(crate) fn read(text: &'a str) -> Result<Self, String> {
        let start = text.find(&format!("\n{EXPECT}\n")).map(|at| at + 1);
        let expected = start.map(|at| {
            let lines = text[at..].lines().skip(1);
            let lines: Vec<&str> = lines
                .map(|line| line.strip_prefix("// ").unwrap_or(line.trim_start_matches("//")))
                .collect();
            lines.join("\n")
        });
        let source = text[..start.unwrap_or(text.len())].trim_end();
        let settings: Vec<(&str, &str)> = source
            .lines()
            .map_while(|line| line.strip_prefix("//"))
            .filter_map(|line| line.split_once(':'))
            .map(|(key, value)| (key.trim(), value.trim()))
            .collect();
        match settings.first() {
            Some(&("test", kind)) => Ok(Self { source, kind, settings, expected }),
            _ => Err("the first line must be `// test: KIND`".to_owned()),
        }
    }

    /// The value of a setting.
    pub(crate) fn setting(&self, key: &str) -> Option<&'a str> {
        self.settings.iter().find(|(k, _)| *k == key).map(|(_, v)| *v)
    }

    /// The settings `{prefix} NAME`, by name.
    pub(crate) fn named(&self, prefix: &str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.settings.iter().filter_map(move |(key, value)| {
            Some((key.strip_prefix(prefix)?.strip_prefix(' ')?, *value))
        })
    }

    /// The file with another expectation.
    pub(crate) fn with_expected(&self, actual: &str) -> String {
        let mut text = format!("{}\n\n{EXPECT}\n", self.source);
        for line in actual.lines() {
            text.push_str(format!("// {line}").trim_end());
            text.push('\n');
        }
        text
    }
}
