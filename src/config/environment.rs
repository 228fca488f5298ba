//! The variables, from the environment and from `.env`. Nothing else reads either.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::dotenv;

/// A setting that cannot be used: which, why, and what to write instead. It repeats no secret.
#[derive(Debug, thiserror::Error)]
#[error("{variable}: {problem}")]
pub struct ConfigError {
    variable: String,
    problem: String,
}

impl ConfigError {
    pub(crate) fn new(variable: &str, problem: impl Into<String>) -> Self {
        Self { variable: variable.to_owned(), problem: problem.into() }
    }
}

/// What `.env` and the environment say; the environment goes before. It shows itself to no log.
pub struct Environment(HashMap<String, OsString>);

impl Environment {
    /// Reads `.env` in the working directory, or a folder above it, and the environment.
    ///
    /// # Errors
    /// Where there is a `.env` that cannot be read, or sets a variable of this program in a way that cannot: names the line
    /// and the variable, and repeats no value.
    pub fn read() -> Result<Self, ConfigError> {
        let environment: HashMap<String, OsString> =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value))).collect();
        let mut variables = HashMap::new();
        if let Some(path) = std::env::current_dir().ok().and_then(|dir| find(&dir)) {
            let bytes = std::fs::read(path).map_err(|e| ConfigError::new(".env", format!("cannot be read: {e}")))?;
            let known = |name: &str| environment.get(name)?.to_str().map(str::to_owned);
            let read = dotenv::parse(&bytes, known).map_err(|e| ConfigError::new(".env", e.to_string()))?;
            variables.extend(read.into_iter().map(|(name, value)| (name, value.into())));
        }
        variables.extend(environment);
        Ok(Self(variables))
    }

    /// A variable's value without the blanks around it; `None` where it is not set.
    ///
    /// # Errors
    /// Where it is set to nothing, or to what is no text.
    pub fn get(&self, name: &str) -> Result<Option<&str>, ConfigError> {
        let Some(value) = self.0.get(name) else { return Ok(None) };
        match value.to_str().map(str::trim) {
            Some("") => Err(ConfigError::new(name, "is set, but empty; unset it, or give it a value")),
            Some(value) => Ok(Some(value)),
            None => Err(ConfigError::new(name, "is not UTF-8 text")),
        }
    }

    pub(super) fn parse<T>(
        &self,
        name: &str,
        default: T,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<T, ConfigError> {
        match self.get(name)? {
            None => Ok(default),
            Some(text) => parse(text).map_err(|problem| ConfigError::new(name, problem)),
        }
    }
}

impl<V: Into<OsString>> FromIterator<(String, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (String, V)>>(variables: I) -> Self {
        Self(variables.into_iter().map(|(name, value)| (name, value.into())).collect())
    }
}

fn find(dir: &Path) -> Option<PathBuf> {
    dir.ancestors().map(|dir| dir.join(".env")).find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    #[test]
    fn what_is_empty_or_no_text_is_an_error_and_blanks_around_a_value_are_none_of_it() {
        let env: Environment =
            [("A", b"".to_vec()), ("B", b" \t".to_vec()), ("C", b" c\n".to_vec()), ("D", vec![b's', 0xff])]
                .into_iter()
                .map(|(name, value)| (name.to_owned(), OsString::from_vec(value)))
                .collect();
        let said = |name| env.get(name).map_err(|e| e.to_string());
        for name in ["A", "B"] {
            assert_eq!(said(name), Err(format!("{name}: is set, but empty; unset it, or give it a value")));
        }
        assert_eq!(said("C"), Ok(Some("c")));
        assert_eq!(said("D"), Err("D: is not UTF-8 text".to_owned()));
        assert_eq!(said("E"), Ok(None));
    }
}
