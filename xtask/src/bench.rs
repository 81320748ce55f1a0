//! Builds the measuring programs and runs one suite after another.
//!
//! Each suite is a program of the package `offspring-benches`, which measures, compares and prints by itself.

use std::fs::File;
use std::path::Path;

use crate::Outcome;
use crate::cargo::Cargo;

const SUITES: &[&str] = &["process", "pool", "locks", "queues", "memory"];

/// Runs the suites that are named, or all.
pub(crate) fn run(words: &[&str]) -> Outcome {
    let request = Request::parse(words)?;
    if let Some(path) = &request.json {
        // The suites append to it.
        File::create(path).map_err(|error| format!("cannot create {path}: {error}"))?;
    }
    for suite in &request.suites {
        let mut call = Cargo::new("bench --package offspring-benches --bench")
            .argument(*suite)
            .argument("--");
        if request.quick {
            call = call.argument("--quick");
        }
        if let Some(path) = &request.json {
            let path = Path::new(path)
                .canonicalize()
                .map_err(|error| format!("cannot find {path}: {error}"))?;
            call = call.argument("--json").argument(path.to_string_lossy());
        }
        call.run()
            .map_err(|reason| format!("the suite {suite} failed: {reason}"))?;
    }
    Ok(())
}

#[derive(Debug, PartialEq, Eq)]
struct Request {
    suites: Vec<&'static str>,
    quick: bool,
    json: Option<String>,
}

impl Request {
    fn parse(words: &[&str]) -> Result<Self, String> {
        let mut request = Self {
            suites: Vec::new(),
            quick: false,
            json: None,
        };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            match *word {
                "--quick" => request.quick = true,
                "--json" => request.json = Some((*words.next().ok_or("--json needs a file")?).to_owned()),
                "all" => request.suites = SUITES.to_vec(),
                name => {
                    let suite = SUITES.iter().find(|suite| **suite == name);
                    request.suites.push(
                        suite.ok_or_else(|| {
                            format!("there is no suite {name}; there are: {}, all", SUITES.join(", "))
                        })?,
                    );
                }
            }
        }
        if request.suites.is_empty() {
            request.suites = SUITES.to_vec();
        }
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_names_suites_and_options() {
        let request = Request::parse(&["pool", "--quick", "--json", "out.json"]);
        assert_eq!(
            request,
            Ok(Request {
                suites: vec!["pool"],
                quick: true,
                json: Some("out.json".to_owned())
            })
        );
        assert_eq!(Request::parse(&[]).map(|request| request.suites), Ok(SUITES.to_vec()));
        assert_eq!(
            Request::parse(&["all"]).map(|request| request.suites),
            Ok(SUITES.to_vec())
        );
        assert!(Request::parse(&["nothing"]).is_err_and(|reason| reason.contains("there is no suite nothing")));
        assert!(Request::parse(&["--json"]).is_err());
    }
}
