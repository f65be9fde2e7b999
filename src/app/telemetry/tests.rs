//! Variables above the file above what is built in.

use super::*;

fn roots() -> Arc<RootCertStore> {
    Arc::new(RootCertStore::empty())
}

fn asked<'a>(file: &'a Telemetry) -> Asked<'a> {
    Asked {
        file,
        keys: headers(["x-key=of the file"].into_iter()).unwrap(),
        fetch: Fetch::new(roots()).unwrap(),
    }
}

fn variables<'a>(all: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<String> + 'a {
    |name| {
        let found = all.iter().find(|(n, _)| *n == name);
        found.map(|(_, value)| (*value).to_owned())
    }
}

fn file() -> Telemetry {
    Telemetry {
        endpoint: Some("https://file.example:4318/otlp/".parse().unwrap()),
        resource: vec![("team".into(), "file".into())],
        service_name: Some("by file".into()),
        ..Telemetry::default()
    }
}

#[test]
fn nothing_said_is_nothing_sent() {
    let none = Telemetry::default();
    for all in [
        &[][..],
        &[("OTEL_EXPORTER_OTLP_ENDPOINT", "")],
        &[
            ("OTEL_SERVICE_NAME", "x"),
            ("OTEL_TRACES_SAMPLER", "always_on"),
        ],
        &[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:1"),
            ("OTEL_SDK_DISABLED", "True"),
        ],
        &[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:1"),
            ("OTEL_TRACES_EXPORTER", "none"),
            ("OTEL_LOGS_EXPORTER", "none"),
        ],
        // A warning, and no telemetry.
        &[("OTEL_EXPORTER_OTLP_ENDPOINT", "c:4317")],
        &[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:1"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
        ],
    ] {
        let opened = open(&none, roots(), &variables(all)).unwrap();
        assert!(opened.is_none(), "{all:?}");
    }
    let disabled = variables(&[("OTEL_SDK_DISABLED", "true")]);
    assert!(asked(&file()).read(&disabled).unwrap().is_none());
}

#[test]
fn each_signal_goes_where_its_own_variable_says() {
    let file = file();
    let all = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318/base"),
        (
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
            "https://t.example/exactly?this",
        ),
        ("OTEL_EXPORTER_OTLP_LOGS_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "a=1, b=%20two%2C"),
        ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "c=3"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "250"),
    ];
    let given = variables(&all);
    let asked = asked(&file);
    let traces = asked
        .signal("TRACES", "v1/traces", &given)
        .unwrap()
        .unwrap();
    assert_eq!(traces.url, "https://t.example/exactly?this");
    assert_eq!(
        (traces.wire, traces.timeout),
        (Wire::Http, Duration::from_millis(250))
    );
    assert_eq!(
        traces.headers.len(),
        1,
        "not the file's, nor the shared ones"
    );
    assert_eq!(traces.headers["c"], "3");
    let logs = asked.signal("LOGS", "v1/logs", &given).unwrap().unwrap();
    assert_eq!((logs.url.port_u16(), logs.wire), (Some(4318), Wire::Grpc));
    assert_eq!(logs.headers["b"], " two,");
    assert_eq!(asked.read(&given).unwrap().unwrap().ports, [4318]);
    let by_file = asked.signal("LOGS", "v1/logs", &|_| None).unwrap().unwrap();
    assert_eq!(by_file.url, "https://file.example:4318/otlp/v1/logs");
    assert_eq!((by_file.timeout, by_file.headers.len()), (PATIENCE, 1));
    assert!(by_file.headers["x-key"].is_sensitive());
}

#[test]
fn what_cannot_be_read_names_its_variable() {
    for (name, value) in [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "ftp://c"),
        ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "http:///k3y"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "no pair"),
        ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "a=%zz"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "0"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
        ("OTEL_TRACES_SAMPLER", "xray"),
        ("OTEL_RESOURCE_ATTRIBUTES", "=x"),
        ("OTEL_LOGS_EXPORTER", "console"),
    ] {
        let file = file();
        let problem = asked(&file).read(&variables(&[(name, value)]));
        let problem = problem.err().unwrap_or_default();
        assert!(problem.starts_with(name), "{name}: {problem}");
        let quoted = value.len() > 2 && problem.contains(value);
        assert!(!quoted, "{name}: there may be a key in {problem}");
    }
}

#[test]
fn variables_name_the_service_above_the_file() {
    let file = file();
    let asked = asked(&file);
    let value = |resource: &Resource, name: &str| {
        let mut all = resource.0.iter().filter(|(n, _)| n == name);
        let found = all.next().map(|(_, v)| v.clone());
        assert!(all.next().is_none(), "{name} once");
        found.unwrap_or_default()
    };
    let by_file = asked.resource(&|_| None).unwrap();
    assert_eq!(value(&by_file, "service.name"), "by file");
    let all = [(
        "OTEL_RESOURCE_ATTRIBUTES",
        "team=a%20b,service.name=attribute",
    )];
    let both = asked.resource(&variables(&all)).unwrap();
    assert_eq!(value(&both, "service.name"), "attribute");
    assert_eq!(value(&both, "team"), "a b");
    let all = [all[0], ("OTEL_SERVICE_NAME", "wins")];
    let named = asked.resource(&variables(&all)).unwrap();
    assert_eq!(value(&named, "service.name"), "wins");
}
