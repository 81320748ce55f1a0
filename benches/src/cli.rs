//! What a suite's program is asked to do.

use std::env;

use crate::sampling::Setting;

pub(crate) enum Request {
    /// One round of one implementation, in this process.
    Measure {
        case: String,
        implementation: String,
        setting: Setting,
    },
    /// All rounds of all implementations.
    Compare(Options),
}

#[derive(Debug, Default)]
pub(crate) struct Options {
    pub(crate) quick: bool,
    pub(crate) json: Option<String>,
    /// Beginnings of case names; all cases if there is none.
    filters: Vec<String>,
}

impl Options {
    pub(crate) fn selects(&self, case: &str) -> bool {
        self.filters.is_empty() || self.filters.iter().any(|filter| case.contains(filter.as_str()))
    }
}

impl Request {
    pub(crate) fn from_arguments() -> Result<Self, String> {
        Self::parse(env::args().skip(1))
    }

    fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Options::default();
        let mut measured = None;
        while let Some(word) = words.next() {
            match word.as_str() {
                "--quick" => options.quick = true,
                "--json" => options.json = Some(words.next().ok_or("--json needs a file")?),
                "--measure" => measured = words.next().zip(words.next()),
                // cargo says that this is a bench.
                "--bench" => {}
                other if other.starts_with('-') => return Err(format!("unknown option {other}")),
                _ => options.filters.push(word),
            }
        }
        Ok(match measured {
            Some((case, implementation)) => Self::Measure {
                case,
                implementation,
                setting: Setting { quick: options.quick },
            },
            None => Self::Compare(options),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Request, String> {
        Request::parse(words.iter().map(|&word| word.to_owned()))
    }

    #[test]
    fn a_comparison_and_a_measurement_are_told_apart() {
        let Ok(Request::Compare(options)) = parse(&["--bench", "--quick", "--json", "a", "lock/"]) else {
            panic!("a comparison")
        };
        assert!(options.quick && options.json.as_deref() == Some("a"));
        assert!(options.selects("lock/mutex_uncontended") && !options.selects("barrier/2"));
        let Ok(Request::Measure {
            case,
            implementation,
            setting,
        }) = parse(&["--quick", "--measure", "a", "b"])
        else {
            panic!("a measurement")
        };
        assert!(setting.quick && case == "a" && implementation == "b");
        assert!(parse(&["--json"]).is_err());
        assert!(parse(&["--fast"]).is_err());
    }
}
