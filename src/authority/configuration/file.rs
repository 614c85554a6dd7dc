//! Parses the file's TOML form and converts it to a [`Configuration`].

use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};

use jiff::SignedDuration;
use serde::Deserialize;
use toml::Spanned;

use crate::token::{KeyAlgorithm, SecurityLevel};

use super::{
    CaConfiguration, Configuration, ConfigurationError, EnrollmentConfiguration, EnvironmentPaths, ListenConfiguration,
    Networks, TokenConfiguration,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: Spanned<String>,
    state: Option<PathBuf>,
    token: TokenTable,
    #[serde(default)]
    listen: ListenTable,
    #[serde(default)]
    ca: CaTable,
    #[serde(default)]
    enrollment: EnrollmentTable,
    #[serde(default)]
    approvals: ApprovalsTable,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenTable {
    module: Option<PathBuf>,
    label: Spanned<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct ListenTable {
    http: Option<SocketAddr>,
    https: Option<SocketAddr>,
    public_url: Option<Spanned<String>>,
    public_https_url: Option<Spanned<String>>,
    certificate_search: Option<bool>,
    proxies: Option<Spanned<Vec<Spanned<String>>>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct CaTable {
    key: Option<Spanned<KeyAlgorithm>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct EnrollmentTable {
    profiles: Option<PathBuf>,
    levels: Option<Spanned<Vec<SecurityLevel>>>,
    letter_valid_days: Option<Spanned<i64>>,
    confirm_wait_minutes: Option<Spanned<i64>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct ApprovalsTable {
    issue: Option<Spanned<i64>>,
    recover: Option<Spanned<i64>>,
}

/// The file's path and text, to find the line for an error message.
struct Source<'a> {
    file: &'a Path,
    text: &'a str,
}

/// Parses the text of `file`.
pub(super) fn parse(
    file: &Path,
    text: &str,
    environment: &EnvironmentPaths,
) -> Result<Configuration, ConfigurationError> {
    let source = Source { file, text };
    let read: File = toml::from_str(text).map_err(|error| source.complaint(error.span(), error.message()))?;
    let base = file.parent().unwrap_or(Path::new("."));

    source.check_approvals(&read.approvals)?;
    Ok(Configuration {
        file: file.to_path_buf(),
        name: source.name(&read.name)?,
        state: match read.state {
            Some(state) => base.join(state),
            None => default_state(environment).ok_or_else(|| {
                source.complaint(None, "set `state`, or one of $STATE_DIRECTORY, $XDG_STATE_HOME and $HOME")
            })?,
        },
        token: TokenConfiguration {
            module: read.token.module.map(|module| base.join(module)),
            label: source.label(&read.token.label)?,
        },
        listen: ListenConfiguration {
            http: read.listen.http.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 8829))),
            https: read.listen.https.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 8830))),
            public_url: source.url(read.listen.public_url.as_ref(), "http://")?,
            public_https_url: source.url(read.listen.public_https_url.as_ref(), "https://")?,
            certificate_search: read.listen.certificate_search.unwrap_or(true),
            proxies: source.proxies(read.listen.proxies)?,
        },
        ca: CaConfiguration {
            line: read.ca.key.as_ref().map(|key| source.line(&key.span())),
            key: read.ca.key.map_or(KeyAlgorithm::P256, Spanned::into_inner),
        },
        enrollment: EnrollmentConfiguration {
            profiles: read.enrollment.profiles.map(|profiles| base.join(profiles)),
            levels: source.levels(read.enrollment.levels)?,
            letter_valid_for: days(source.number(read.enrollment.letter_valid_days.as_ref(), 14, 1, 366)?),
            confirm_wait: SignedDuration::from_mins(source.number(
                read.enrollment.confirm_wait_minutes.as_ref(),
                10,
                1,
                7 * 24 * 60,
            )?),
        },
    })
}

fn default_state(environment: &EnvironmentPaths) -> Option<PathBuf> {
    if let Some(state) = &environment.state_directory {
        return Some(state.clone());
    }
    let data = environment.xdg_state_home.clone().or_else(|| Some(environment.home.as_ref()?.join(".local/state")))?;
    Some(data.join("tokenkeep/authority"))
}

fn days(days: i64) -> SignedDuration {
    SignedDuration::from_hours(days * 24)
}

impl Source<'_> {
    fn complaint(&self, span: Option<Range<usize>>, reason: &str) -> ConfigurationError {
        let line = span.map(|span| self.line(&span));
        ConfigurationError { file: self.file.to_path_buf(), line, reason: reason.trim_end().to_owned() }
    }

    /// Returns the line number, counted from 1.
    fn line(&self, span: &Range<usize>) -> usize {
        self.text.bytes().take(span.start).filter(|byte| *byte == b'\n').count() + 1
    }

    /// Refuses policies that require more than one approval: this version could not enforce them.
    fn check_approvals(&self, approvals: &ApprovalsTable) -> Result<(), ConfigurationError> {
        for (operation, count) in [("issue", &approvals.issue), ("recover", &approvals.recover)] {
            if let Some(count) = count
                && *count.get_ref() != 1
            {
                let reason = format!(
                    "`{operation}` requires the approval of {} administrators; this version supports only policies \
                     with one administrator (approvals = 1)",
                    count.get_ref()
                );
                return Err(self.complaint(Some(count.span()), &reason));
            }
        }
        Ok(())
    }

    fn name(&self, name: &Spanned<String>) -> Result<String, ConfigurationError> {
        let text = name.get_ref().trim();
        if text.is_empty() || text.chars().count() > 64 || text.chars().any(char::is_control) {
            return Err(self.complaint(Some(name.span()), "`name` must have 1 to 64 printable characters"));
        }
        Ok(text.to_owned())
    }

    fn label(&self, label: &Spanned<String>) -> Result<String, ConfigurationError> {
        let text = label.get_ref();
        if text.is_empty() || text.len() > 32 || text.trim() != text || text.chars().any(char::is_control) {
            let reason = "a token's `label` must have 1 to 32 printable bytes, without leading or trailing spaces";
            return Err(self.complaint(Some(label.span()), reason));
        }
        Ok(text.clone())
    }

    fn url(&self, url: Option<&Spanned<String>>, scheme: &str) -> Result<Option<String>, ConfigurationError> {
        let Some(url) = url else { return Ok(None) };
        let text = url.get_ref().trim_end_matches('/');
        match text.strip_prefix(scheme) {
            Some(host) if !host.is_empty() && !host.contains(char::is_whitespace) => Ok(Some(text.to_owned())),
            _ => Err(self.complaint(Some(url.span()), &format!("this URL must begin with {scheme} and name a host"))),
        }
    }

    fn proxies(&self, proxies: Option<Spanned<Vec<Spanned<String>>>>) -> Result<Networks, ConfigurationError> {
        let proxies = proxies.map(Spanned::into_inner).unwrap_or_default();
        let (spans, texts): (Vec<_>, Vec<_>) =
            proxies.into_iter().map(|proxy| (proxy.span(), proxy.into_inner())).unzip();
        Networks::read(&texts).map_err(|(at, reason)| {
            self.complaint(
                spans.get(at).cloned(),
                &format!("`proxies` must be a list of addresses and networks: {reason}"),
            )
        })
    }

    fn number(
        &self,
        number: Option<&Spanned<i64>>,
        default: i64,
        least: i64,
        most: i64,
    ) -> Result<i64, ConfigurationError> {
        match number {
            None => Ok(default),
            Some(number) if (least..=most).contains(number.get_ref()) => Ok(*number.get_ref()),
            Some(number) => {
                Err(self.complaint(Some(number.span()), &format!("this number must be between {least} and {most}")))
            }
        }
    }

    fn levels(&self, levels: Option<Spanned<Vec<SecurityLevel>>>) -> Result<Vec<SecurityLevel>, ConfigurationError> {
        let Some(levels) = levels else {
            return Ok(vec![SecurityLevel::High, SecurityLevel::Medium, SecurityLevel::Low]);
        };
        let span = levels.span();
        let mut levels = levels.into_inner();
        levels.sort_by(|a, b| b.cmp(a));
        levels.dedup();
        if levels.is_empty() {
            return Err(self.complaint(Some(span), "`levels` must name at least one of \"high\", \"medium\", \"low\""));
        }
        Ok(levels)
    }
}
