//! The prompt methods, in the syntax of `prompter` in agent.toml.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::PrompterError;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PromptMethod {
    /// `auto`: the first usable one of pinentry, askpass and the terminal. The default.
    #[default]
    Auto,
    /// `pinentry[:PATH]`: a pinentry, on a display or on this program's controlling terminal; with
    /// a path, also on the terminal `$GPG_TTY`.
    Pinentry(Option<PathBuf>),
    /// `askpass[:PATH]`: an askpass program; without a path, `$SSH_ASKPASS`.
    Askpass(Option<PathBuf>),
    /// `terminal[:PATH]`: a terminal; without a path, `/dev/tty`.
    Terminal(Option<PathBuf>),
    /// `fd:N`: each PIN is the next line of an open descriptor. Cannot confirm.
    Descriptor(u32),
    /// `command:PROGRAM ARGUMENTS`: a command that prints the PIN as its first line. Spaces
    /// separate the words. Only the user's own configuration may set it, because it learns every
    /// PIN.
    Command(Vec<String>),
}

impl FromStr for PromptMethod {
    type Err = PrompterError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (kind, rest) = text.split_once(':').map_or((text, None), |(kind, rest)| (kind, Some(rest)));
        let closed =
            |reason: &str| PrompterError::MethodUnavailable { method: kind.to_owned(), reason: reason.to_owned() };
        let path = || match rest {
            None => Ok(None),
            Some(path) if path.starts_with('/') => Ok(Some(PathBuf::from(path))),
            Some(_) => Err(closed("the text after the colon is not an absolute path")),
        };
        match (kind, rest) {
            ("auto", None) => Ok(Self::Auto),
            ("pinentry", _) => path().map(Self::Pinentry),
            ("askpass", _) => path().map(Self::Askpass),
            ("terminal", _) => path().map(Self::Terminal),
            ("fd", Some(number)) => {
                number.parse().map(Self::Descriptor).map_err(|_| closed("fd: takes the number of an open descriptor"))
            }
            ("command", Some(line)) if line.contains(['"', '\'', '\\']) => {
                Err(closed("spaces separate its words, and quoting is not supported; use a script instead"))
            }
            ("command", Some(line)) => {
                let words: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
                if words.is_empty() { Err(closed("it names no program")) } else { Ok(Self::Command(words)) }
            }
            // Do not repeat the whole text: it may be the PIN itself.
            _ => Err(PrompterError::UnknownMethod {
                given: if rest.is_some() { kind.to_owned() } else { "that".to_owned() },
            }),
        }
    }
}

impl fmt::Display for PromptMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let with_path = |f: &mut fmt::Formatter<'_>, kind: &str, path: &Option<PathBuf>| match path {
            None => f.write_str(kind),
            Some(path) => write!(f, "{kind}:{}", path.display()),
        };
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Pinentry(path) => with_path(f, "pinentry", path),
            Self::Askpass(path) => with_path(f, "askpass", path),
            Self::Terminal(path) => with_path(f, "terminal", path),
            Self::Descriptor(number) => write!(f, "fd:{number}"),
            Self::Command(words) => write!(f, "command:{}", words.join(" ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_read_as_they_are_written() {
        for text in [
            "auto",
            "pinentry",
            "pinentry:/usr/bin/pinentry-tty",
            "askpass",
            "askpass:/usr/bin/ssh-askpass",
            "terminal",
            "terminal:/dev/pts/3",
            "fd:7",
            "command:/usr/local/bin/ask --for tokenkeep",
        ] {
            assert_eq!(text.parse::<PromptMethod>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn an_unknown_method_is_refused_without_repeating_it() {
        for text in [
            "",
            "12345678",
            "auto:",
            "auto:12345678",
            "pinentry:",
            "pinentry:pinentry-tty",
            "askpass:./x",
            "terminal:pts/3",
            "fd",
            "fd:",
            "fd:-1",
            "command",
            "command:",
            "command:  ",
            "command:sh -c 'echo 12345678'",
            "pin:12345678",
        ] {
            let error = text.parse::<PromptMethod>().unwrap_err().to_string();
            assert!(error.starts_with("cannot prompt with ") && !error.contains("12345678"), "{text:?}: {error}");
        }
    }
}
