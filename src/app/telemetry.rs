//! Where traces and logs go: the standard `OTEL_*` variables, and what the file says beneath them.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::uri::Uri;
use http::{HeaderMap, HeaderName, HeaderValue};
use rustls::RootCertStore;

use super::StartError;
use crate::event::otel::{self, Couriers, Destination, Otel, Resource, Wire};
use crate::fetch::Fetch;
use crate::settings::{OtlpProtocol, Sampler, Telemetry, port};
use crate::wallet::secret_file;

/// For one request, where nobody says otherwise (the specification's default).
const PATIENCE: Duration = Duration::from_secs(10);

/// Where a variable's value comes from.
type Given<'a> = &'a dyn Fn(&str) -> Option<String>;

/// What exports, and what must not be reached by agents.
pub(super) struct Exporting {
    pub(super) otel: Arc<Otel>,
    pub(super) couriers: Couriers,
    /// Ports of collectors on this machine.
    pub(super) ports: Vec<u16>,
}

/// The exporter, if anything says where to. A variable that cannot be read turns it off, with a warning,
/// as the specification of the variables says: they may be the agent's.
///
/// # Errors
/// When the file that holds the keys cannot be used, or no certificate could be verified.
pub(super) fn open(
    file: &Telemetry,
    roots: Arc<RootCertStore>,
    given: Given<'_>,
) -> Result<Option<Exporting>, StartError> {
    let failed = |problem: String| StartError::Telemetry(problem);
    let keys = match &file.headers_file {
        None => HeaderMap::new(),
        Some(path) => {
            let bytes = secret_file::read(path).map_err(|e| failed(e.to_string()))?;
            let shown = path.display();
            let text = String::from_utf8_lossy(&bytes);
            let lines = text.lines().filter(|line| !line.trim().is_empty());
            headers(lines).ok_or_else(|| failed(format!("{shown}: expected name=value lines")))?
        }
    };
    let fetch = Fetch::new(roots).map_err(|e| failed(e.to_string()))?;
    match (Asked { file, keys, fetch }).read(given) {
        Ok(exporting) => Ok(exporting),
        Err(problem) => {
            tracing::warn!(%problem, "a variable cannot be used, so no telemetry is sent");
            Ok(None)
        }
    }
}

/// A variable's value, unless it is empty, which is as if it were not there.
fn set(given: Given<'_>, name: &str) -> Option<String> {
    given(name).filter(|value| !value.is_empty())
}

/// Everything that is asked for, beneath the variables.
struct Asked<'a> {
    file: &'a Telemetry,
    keys: HeaderMap,
    fetch: Fetch,
}

impl Asked<'_> {
    fn read(&self, given: Given<'_>) -> Result<Option<Exporting>, String> {
        let off = set(given, "OTEL_SDK_DISABLED");
        if off.is_some_and(|off| off.eq_ignore_ascii_case("true")) {
            return Ok(None);
        }
        let traces = match self.file.no_traces {
            true => None,
            false => self.signal("TRACES", "v1/traces", given)?,
        };
        let logs = match self.file.no_logs {
            true => None,
            false => self.signal("LOGS", "v1/logs", given)?,
        };
        if traces.is_none() && logs.is_none() {
            return Ok(None);
        }
        let ends = [&traces, &logs];
        let ports = ends.into_iter().flatten().filter_map(|to| here(&to.url));
        let ports = ports.collect();
        let sampler = self.sampler(given)?;
        let (otel, couriers) = otel::open(self.resource(given)?, sampler, (traces, logs));
        Ok(Some(Exporting {
            otel,
            couriers,
            ports,
        }))
    }

    /// Where one signal goes; `None`: nowhere.
    fn signal(
        &self,
        name: &str,
        path: &str,
        given: Given<'_>,
    ) -> Result<Option<Destination>, String> {
        let exporter = format!("OTEL_{name}_EXPORTER");
        match set(given, &exporter).as_deref() {
            None | Some("otlp") => {}
            Some("none") => return Ok(None),
            Some(_) => return Err(format!("{exporter}: write otlp or none")),
        }
        let first = |what: &str| {
            let own = format!("OTEL_EXPORTER_OTLP_{name}_{what}");
            let shared = format!("OTEL_EXPORTER_OTLP_{what}");
            let found = |name: String| set(given, &name).map(|value| (name, value));
            found(own).or_else(|| found(shared))
        };
        let wire = match first("PROTOCOL") {
            Some((name, text)) => text.parse().map_err(|e| format!("{name}: {e}"))?,
            None => self.file.protocol.unwrap_or_default(),
        };
        let own = set(given, &format!("OTEL_EXPORTER_OTLP_{name}_ENDPOINT")).is_some();
        let (endpoint, keys) = match first("ENDPOINT") {
            Some((name, text)) => {
                let uri = endpoint(&text);
                // The keys of the file are for the collector of the file.
                (
                    uri.ok_or(format!("{name}: expected http:// or https:// and a host"))?,
                    None,
                )
            }
            None => match &self.file.endpoint {
                Some(endpoint) => (endpoint.clone(), Some(&self.keys)),
                None => return Ok(None),
            },
        };
        let url = match (wire, own) {
            (OtlpProtocol::Http, false) => below(&endpoint, path),
            (OtlpProtocol::Http, true) | (OtlpProtocol::Grpc, _) => endpoint,
        };
        let mut all = keys.cloned().unwrap_or_default();
        if let Some((name, text)) = first("HEADERS") {
            let pairs = text.split(',').filter(|pair| !pair.trim().is_empty());
            let pairs = headers(pairs).ok_or(format!("{name}: expected name=value,name=value"))?;
            all.extend(pairs);
        }
        let timeout = match first("TIMEOUT") {
            Some((name, text)) => {
                let millis = text.parse().ok().filter(|n| (1..=60_000).contains(n));
                let millis = millis.ok_or(format!("{name}: expected 1 to 60000 milliseconds"))?;
                Duration::from_millis(millis)
            }
            None => self.file.timeout.unwrap_or(PATIENCE),
        };
        Ok(Some(Destination {
            fetch: self.fetch.clone(),
            url,
            wire: match wire {
                OtlpProtocol::Http => Wire::Http,
                OtlpProtocol::Grpc => Wire::Grpc,
            },
            headers: all,
            timeout,
        }))
    }

    fn sampler(&self, given: Given<'_>) -> Result<Sampler, String> {
        let argument = set(given, "OTEL_TRACES_SAMPLER_ARG");
        match set(given, "OTEL_TRACES_SAMPLER") {
            Some(name) => Sampler::named(&name, argument.as_deref())
                .map_err(|e| format!("OTEL_TRACES_SAMPLER: {e}")),
            None => Ok(self.file.sampler.unwrap_or_default()),
        }
    }

    /// Later ones win: what is built in, the file, and the variables.
    fn resource(&self, given: Given<'_>) -> Result<Resource, String> {
        let own = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let mut all = vec![
            own("service.name", env!("CARGO_PKG_NAME")),
            own("service.version", env!("CARGO_PKG_VERSION")),
            own("telemetry.sdk.name", env!("CARGO_PKG_NAME")),
            own("telemetry.sdk.language", "rust"),
            own("telemetry.sdk.version", env!("CARGO_PKG_VERSION")),
        ];
        let mut put = |name: String, value: String| match all.iter_mut().find(|(n, _)| *n == name) {
            Some((_, old)) => *old = value,
            None => all.push((name, value)),
        };
        let service = |name: &String| ("service.name".to_owned(), name.clone());
        let file = self.file.resource.iter().cloned();
        for (name, value) in file.chain(self.file.service_name.iter().map(service)) {
            put(name, value);
        }
        if let Some(text) = set(given, "OTEL_RESOURCE_ATTRIBUTES") {
            for pair in text.split(',').filter(|pair| !pair.trim().is_empty()) {
                let read = pair.split_once('=').and_then(|(name, value)| {
                    let name = decoded(name).filter(|name| !name.is_empty())?;
                    Some((name, decoded(value)?))
                });
                let wrong = "OTEL_RESOURCE_ATTRIBUTES: expected name=value,name=value";
                let (name, value) = read.ok_or(wrong)?;
                put(name, value);
            }
        }
        if let Some(name) = set(given, "OTEL_SERVICE_NAME") {
            put("service.name".into(), name);
        }
        Ok(Resource(all))
    }
}

fn endpoint(text: &str) -> Option<Uri> {
    let uri: Uri = text.parse().ok()?;
    let spoken = matches!(uri.scheme_str(), Some("http" | "https"));
    let named = uri.host().is_some_and(|host| !host.is_empty());
    let ported = uri.authority().and_then(|a| port(a, 443)).is_some();
    (spoken && named && ported).then_some(uri)
}

/// The path of a signal below an endpoint.
fn below(endpoint: &Uri, path: &str) -> Uri {
    let base = endpoint.path().trim_end_matches('/');
    let joined = format!("{base}/{path}").parse();
    let mut parts = endpoint.clone().into_parts();
    parts.path_and_query = joined.ok();
    Uri::from_parts(parts).unwrap_or_else(|_| endpoint.clone())
}

/// The port, where the host is this machine.
fn here(url: &Uri) -> Option<u16> {
    let host = url.host()?.trim_matches(['[', ']']);
    let address: Option<IpAddr> = host.parse().ok();
    let loopback = address.is_some_and(|a| a.is_loopback() || a.is_unspecified());
    let usual = if url.scheme_str() == Some("https") {
        443
    } else {
        80
    };
    (loopback || host.eq_ignore_ascii_case("localhost")).then(|| url.port_u16().unwrap_or(usual))
}

/// `name=value` each, the values percent-encoded (W3C Baggage). `None`: one of them is none.
fn headers<'a>(pairs: impl Iterator<Item = &'a str>) -> Option<HeaderMap> {
    let mut all = HeaderMap::new();
    for pair in pairs {
        let (name, value) = pair.split_once('=')?;
        let name: HeaderName = name.trim().parse().ok()?;
        let mut value = HeaderValue::from_str(&decoded(value)?).ok()?;
        value.set_sensitive(true);
        all.insert(name, value);
    }
    Some(all)
}

/// Without spaces around it, percent-decoded.
fn decoded(text: &str) -> Option<String> {
    let plain = crate::fetch::percent_decoded(text.trim())?;
    String::from_utf8(plain.to_vec()).ok()
}

#[cfg(test)]
mod tests;
