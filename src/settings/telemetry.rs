//! `telemetry:`: where traces and logs go, and which of them. The same words as those of the standard
//! `OTEL_*` variables.

use core::str::FromStr;
use core::time::Duration;
use std::path::{Path, PathBuf};

use http::Uri;

use super::webhook::url;
use super::{Span, path};
use crate::section::{Section, SectionError};

/// How a collector is spoken to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OtlpProtocol {
    /// `http/protobuf`: a POST for each batch.
    #[default]
    Http,
    /// `grpc`: a call for each batch.
    Grpc,
}

/// Why a text names no protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write http/protobuf or grpc")]
pub struct NotOtlpProtocol;

impl FromStr for OtlpProtocol {
    type Err = NotOtlpProtocol;

    fn from_str(text: &str) -> Result<Self, NotOtlpProtocol> {
        match text {
            "http/protobuf" => Ok(Self::Http),
            "grpc" => Ok(Self::Grpc),
            _ => Err(NotOtlpProtocol),
        }
    }
}

/// Which traces are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sampler {
    /// Does the agent's own decision come first, where it sends one?
    pub parent_based: bool,
    /// Of the others, so many billionths.
    pub ratio: u64,
}

impl Default for Sampler {
    /// `parentbased_always_on`.
    fn default() -> Self {
        Self {
            parent_based: true,
            ratio: WHOLE,
        }
    }
}

/// All traces, in billionths.
const WHOLE: u64 = 1_000_000_000;

/// Why texts name no sampler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotSampler {
    /// Its name.
    #[error("write always_on, always_off, traceidratio, or one of them behind parentbased_")]
    Name,
    /// Its argument.
    #[error("write a part of all traces as a number from 0 to 1: 0.25")]
    Ratio,
}

impl Sampler {
    /// A name, and for a ratio its argument: all of them without one.
    ///
    /// # Errors
    /// [`NotSampler`].
    pub fn named(name: &str, argument: Option<&str>) -> Result<Self, NotSampler> {
        let bare = name.strip_prefix("parentbased_");
        let ratio = match bare.unwrap_or(name) {
            "always_on" => WHOLE,
            "always_off" => 0,
            "traceidratio" => argument.map_or(Ok(WHOLE), ratio)?,
            _ => return Err(NotSampler::Name),
        };
        Ok(Self {
            parent_based: bare.is_some(),
            ratio,
        })
    }

    /// Is this trace kept? The same answer for the same trace everywhere: its last seven bytes decide.
    /// `sampled`: what the agent decided.
    #[must_use]
    pub fn takes(&self, trace: &[u8; 16], sampled: Option<bool>) -> bool {
        if let (true, Some(sampled)) = (self.parent_based, sampled) {
            return sampled;
        }
        let tail = trace.iter().skip(9);
        let place = tail.fold(0_u128, |sum, byte| sum << 8 | u128::from(*byte));
        place * u128::from(WHOLE) < u128::from(self.ratio) << 56
    }
}

/// `0.25` in billionths.
fn ratio(text: &str) -> Result<u64, NotSampler> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(part) || whole.len() + part.len() == 0 || part.len() > 9 {
        return Err(NotSampler::Ratio);
    }
    let number = |s: &str| {
        if s.is_empty() {
            Ok(0)
        } else {
            s.parse::<u64>()
        }
    };
    let whole = number(whole).map_err(|_| NotSampler::Ratio)?;
    let part = number(&format!("{part:0<9}")).map_err(|_| NotSampler::Ratio)?;
    let all = whole.checked_mul(WHOLE).and_then(|w| w.checked_add(part));
    all.filter(|all| *all <= WHOLE).ok_or(NotSampler::Ratio)
}

/// Traces and logs for a collector.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Telemetry {
    /// Where; without it nothing is sent, unless a variable says where.
    pub endpoint: Option<Uri>,
    /// How.
    pub protocol: Option<OtlpProtocol>,
    /// `name=value` lines that go with each request: keys.
    pub headers_file: Option<PathBuf>,
    /// For one request.
    pub timeout: Option<Duration>,
    /// What this process is called.
    pub service_name: Option<String>,
    /// What else every span and record says.
    pub resource: Vec<(String, String)>,
    /// Which traces are kept.
    pub sampler: Option<Sampler>,
    /// Are traces left out?
    pub no_traces: bool,
    /// Are logs left out?
    pub no_logs: bool,
}

impl Telemetry {
    /// Reads `telemetry:`. `null` is as if it were not there.
    ///
    /// # Errors
    /// With the place of what cannot be read.
    pub fn read(mut section: Section, base: &Path) -> Result<Self, SectionError> {
        if section.is_nothing() {
            return Ok(Self::default());
        }
        let endpoint = url(section.need("endpoint")?)?;
        let protocol = section.take("protocol").map(Section::parse).transpose()?;
        let headers_file = section.or("headers_file", None, |s| path(s, base).map(Some))?;
        let timeout = section.take("timeout").map(timeout).transpose()?;
        let service_name = section.take("service_name").map(word).transpose()?;
        let resource = section.or("resource", vec![], |s| {
            let entries = s.entries()?.into_iter();
            entries.map(|(name, s)| Ok((name, word(s)?))).collect()
        })?;
        let argument = section.take("sampler_arg");
        let sampler = match section.take("sampler") {
            Some(name) => Some(sampler(name, argument)?),
            None => match argument {
                Some(alone) => {
                    return Err(alone.error("there is no `sampler` that this could be for"));
                }
                None => None,
            },
        };
        let traces = section.or("traces", true, Section::flag)?;
        let logs = section.or("logs", true, Section::flag)?;
        section.finish()?;
        Ok(Self {
            endpoint: Some(endpoint),
            protocol,
            headers_file,
            timeout,
            service_name,
            resource,
            sampler,
            no_traces: !traces,
            no_logs: !logs,
        })
    }
}

fn word(section: Section) -> Result<String, SectionError> {
    let text = section.clone().text()?;
    match text.is_empty() || text.chars().any(char::is_control) {
        true => Err(section.expected("a text of one line")),
        false => Ok(text),
    }
}

fn timeout(section: Section) -> Result<Duration, SectionError> {
    let most = Duration::from_secs(60);
    let Span(span) = section.clone().parse()?;
    match span.is_zero() || span > most {
        true => Err(section.expected("a time up to 60s")),
        false => Ok(span),
    }
}

fn sampler(name: Section, argument: Option<Section>) -> Result<Sampler, SectionError> {
    let text = argument.clone().map(Section::text).transpose()?;
    let named = Sampler::named(&name.clone().text()?, text.as_deref());
    named.map_err(|problem| match (problem, argument) {
        (NotSampler::Ratio, Some(argument)) => argument.error(problem.to_string()),
        (NotSampler::Ratio | NotSampler::Name, _) => name.error(problem.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_keeps_so_many_and_always_the_same() {
        let quarter = Sampler::named("parentbased_traceidratio", Some("0.25")).unwrap();
        let trace = |n: u32| {
            let mut trace = [7; 16];
            let mixed = u64::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            trace[8..].copy_from_slice(&mixed.to_be_bytes());
            trace
        };
        let kept = (0..4000).filter(|n| quarter.takes(&trace(*n), None));
        let kept = kept.count();
        assert!((900..1100).contains(&kept), "{kept}");
        assert!(quarter.takes(&[0xff; 16], Some(true)), "the agent keeps it");
        assert!(!quarter.takes(&[0; 16], Some(false)), "the agent does not");
        let own = Sampler::named("traceidratio", Some("0.25")).unwrap();
        assert!(!own.takes(&[0xff; 16], Some(true)));
        assert!(
            Sampler::named("traceidratio", None)
                .unwrap()
                .takes(&[0xff; 16], None)
        );
        assert!(
            !Sampler::named("always_off", None)
                .unwrap()
                .takes(&[0; 16], None)
        );
        assert!(
            Sampler::named("always_on", None)
                .unwrap()
                .takes(&[0xff; 16], Some(false))
        );
    }

    #[test]
    fn what_is_no_sampler_is_refused() {
        for argument in ["1.1", "-1", "", ".", "a", "0.0000000001", "1e-3"] {
            let named = Sampler::named("traceidratio", Some(argument));
            assert_eq!(named, Err(NotSampler::Ratio), "{argument}");
        }
        for name in ["", "on", "parentbased_jaeger_remote", "xray"] {
            assert_eq!(Sampler::named(name, None), Err(NotSampler::Name), "{name}");
        }
    }
}
