//! The command line: `--name value` pairs; no crate, for the guest's image stays small.

use std::path::PathBuf;
use std::str::FromStr;

/// Options not yet asked for.
#[derive(Debug)]
pub struct Args {
    pairs: Vec<(String, String)>,
}

impl Args {
    /// Splits `--name value` and `--name=value` arguments.
    ///
    /// # Errors
    /// An argument that is neither, in one line.
    pub fn parse(arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut pairs = Vec::new();
        let mut arguments = arguments;
        while let Some(argument) = arguments.next() {
            let Some(name) = argument.strip_prefix("--") else {
                return Err(format!(
                    "{argument}: not an option; options look like --seed 1"
                ));
            };
            let (name, value) = match name.split_once('=') {
                Some((name, value)) => (name.to_owned(), value.to_owned()),
                None => {
                    let value = arguments
                        .next()
                        .ok_or_else(|| format!("--{name} needs a value"))?;
                    (name.to_owned(), value)
                }
            };
            pairs.push((name, value));
        }
        Ok(Self { pairs })
    }

    /// Takes the option `name`, or `default` when it was not given; the last one given counts.
    ///
    /// # Errors
    /// A value that is not of the wanted kind, in one line.
    pub fn take<T: FromStr>(&mut self, name: &str, default: T) -> Result<T, String> {
        let mut value = default;
        for (_, text) in self.pairs.extract_if(.., |(given, _)| given == name) {
            value = text
                .parse()
                .map_err(|_| format!("--{name} {text}: not a valid value"))?;
        }
        Ok(value)
    }

    /// Takes the option `name`, a path, if it was given.
    pub fn take_path(&mut self, name: &str) -> Option<PathBuf> {
        let given = self.pairs.extract_if(.., |(given, _)| given == name);
        given.last().map(|(_, path)| PathBuf::from(path))
    }

    /// To be called last.
    ///
    /// # Errors
    /// An option that nobody asked for, in one line.
    pub fn finish(self) -> Result<(), String> {
        match self.pairs.first() {
            Some((name, _)) => Err(format!("--{name}: unknown option")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
#[path = "args_test.rs"]
mod tests;
