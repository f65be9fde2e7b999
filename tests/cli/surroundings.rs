//! What the user has set before `farepass run`: certificates that are trusted, other proxies, folders.

use std::fs;

use farepass::demo::merchant::Merchant;
use tokio::runtime::Runtime;

use crate::support::{Ended, Home, SHOP, Street, there_is};

#[test]
fn certificates_that_the_user_trusts_stay_trusted() {
    let home = Home::ready();
    if !there_is("curl") {
        return;
    }
    let runtime = Runtime::new().unwrap();
    // On this machine, so no proxy is between them.
    let start = |dir: &str| {
        let dir = home.at(dir);
        runtime.block_on(Merchant::start(&dir, &["localhost"]))
    };
    let (one, two) = (start("one").unwrap(), start("two").unwrap());
    let script = format!(
        "curl -sS https://localhost:{}/ && curl -sS https://localhost:{}/ && echo both; grep -c BEGIN \"$NODE_EXTRA_CA_CERTS\"; ls \"$SSL_CERT_DIR\" | wc -l; node -e 'require(\"node:https\").get(process.argv[1], r => console.log(\"node\", r.resume().statusCode))' https://localhost:{}/",
        one.address().port(),
        two.address().port(),
        two.address().port(),
    );
    let mut command = home.command(["run", "--", "sh", "-c", &script]);
    command.env("REQUESTS_CA_BUNDLE", "one/ca.pem");
    command.env("CURL_CA_BUNDLE", home.at("one/ca.pem"));
    command.env("NODE_EXTRA_CA_CERTS", home.at("two/ca.pem"));
    command.env("GIT_SSL_CAINFO", "nowhere.pem");
    command.env("PIP_CERT", "farepass.yaml");
    let ended = Ended::of(command.output().unwrap());
    let lines: Vec<_> = ended.out.lines().collect();
    let counted = lines.iter().filter(|line| line.trim() == "3").count();
    assert_eq!(counted, 2, "{ended:?}");
    assert!(ended.out.contains("both\n"), "{ended:?}");
    if there_is("node") {
        assert!(ended.out.contains("node 200\n"), "{ended:?}");
    }
    for told in ["$GIT_SSL_CAINFO", "nowhere.pem", "$PIP_CERT"] {
        assert!(ended.err.contains(told), "{told}: {ended:?}");
    }
    assert!(!ended.err.contains("$CURL_CA_BUNDLE"), "{ended:?}");
    home.assert_tidy();
}

/// What is trusted by programs is not by the proxy.
#[test]
fn certificates_that_the_user_trusts_are_for_programs_only() {
    let street = Street::new();
    if !there_is("curl") {
        return;
    }
    let home = &street.home;
    let text = home.read("farepass.yaml");
    let text = text.replace("extra_roots: [merchant/ca.pem]", "extra_roots: []");
    fs::write(home.at("farepass.yaml"), text).unwrap();
    let script = format!("curl -sS -o answer -w '%{{http_code}}' {SHOP}/");
    let mut command = home.command(["run", "--", "sh", "-c", &script]);
    command.env("CURL_CA_BUNDLE", home.at("merchant/ca.pem"));
    let ended = Ended::of(command.output().unwrap());
    assert_eq!(ended.out, "502", "{ended:?}");
}

#[test]
fn no_setting_of_a_single_program_leads_past_the_proxy() {
    let home = Home::ready();
    let elsewhere = "http://me:hunter2@corp.example:3128";
    let gone = [
        "npm_config_https_proxy",
        "NPM_CONFIG_PROXY",
        "npm_config_noproxy",
        "npm_config_https-proxy",
        "YARN_HTTPS_PROXY",
        "CARGO_HTTP_PROXY",
        "PIP_PROXY",
        "grpc_proxy",
        "no_grpc_proxy",
        "CLOUDSDK_PROXY_ADDRESS",
    ];
    let mut command = home.command(["run", "--", "env"]);
    for name in gone {
        command.env(name, elsewhere);
    }
    command.env("npm_config_registry", "https://npm.example/");
    command.env("GIT_CONFIG_COUNT", "3");
    for (number, (key, value)) in [
        ("http.proxy", elsewhere),
        ("user.name", "me"),
        ("http.https://git.example.proxy", elsewhere),
    ]
    .iter()
    .enumerate()
    {
        command.env(format!("GIT_CONFIG_KEY_{number}"), key);
        command.env(format!("GIT_CONFIG_VALUE_{number}"), value);
    }
    let ended = Ended::of(command.output().unwrap()).ok();
    assert!(!ended.out.contains("hunter2"), "{}", ended.out);
    for name in gone {
        assert!(!ended.out.contains(&format!("{name}=")), "{name}");
    }
    let set = |name: &str| {
        let mut lines = ended.out.lines();
        let line = lines.find_map(|line| line.strip_prefix(&format!("{name}=")));
        line.unwrap_or_else(|| panic!("{name}: {}", ended.out))
    };
    for name in ["GIT_CONFIG_VALUE_0", "GIT_CONFIG_VALUE_2"] {
        assert_eq!(set(name), set("HTTPS_PROXY"), "{name}");
    }
    assert_eq!(set("GIT_CONFIG_VALUE_1"), "me");
    assert_eq!(set("npm_config_registry"), "https://npm.example/");
    home.assert_tidy();
}

#[test]
fn a_proxy_in_the_users_wgetrc_is_not_gone_through() {
    let street = Street::new();
    let home = &street.home;
    let own = "timeout = 7\nuse_proxy = off\nHTTPS-Proxy = http://127.0.0.1:9/\nno_proxy = shop.example\nproxy_user = me\nproxy_password = hunter2\n";
    fs::write(home.at(".wgetrc"), own).unwrap();
    let ended = home.run(&[], "cat \"$WGETRC\"").ok();
    assert!(ended.out.contains("timeout = 7\n"), "{}", ended.out);
    if there_is("wget") {
        let ended = home
            .run(&[], &format!("wget -q -t 1 -O - {SHOP}/forecast"))
            .ok();
        assert!(ended.out.contains("14 °C"), "{ended:?}");
    }
    home.assert_tidy();
}

#[test]
fn a_temporary_folder_may_be_named_from_here() {
    let street = Street::new();
    if !there_is("curl") {
        return;
    }
    let home = &street.home;
    let script = format!("cd /; curl -sS {SHOP}/forecast; node -e 'console.log(1)'");
    let mut command = home.command(["run", "--", "sh", "-c", &script]);
    fs::create_dir(home.at("near")).unwrap();
    command.env("TMPDIR", "near");
    let ended = Ended::of(command.output().unwrap());
    assert!(ended.out.contains("14 °C"), "{ended:?}");
    if there_is("node") {
        assert!(ended.out.ends_with("1\n"), "{ended:?}");
    }
    assert_eq!(fs::read_dir(home.at("near")).unwrap().count(), 0);
    let mut command = home.command(["run", "--", "echo", "2"]);
    command.env("TMPDIR", "");
    assert_eq!(Ended::of(command.output().unwrap()).ok().out, "2\n");
}

#[test]
fn programs_start_under_a_temporary_folder_with_odd_letters() {
    let street = Street::new();
    let home = &street.home;
    let node = "node -e 'console.log(\"node\", process.execArgv.length)'";
    let java = "java -XshowSettings:properties -version 2>&1 | grep trustStore.=";
    for name in ["it's", "5\" disk", "a b\\c", "both '\"'", "tab\there"] {
        let place = home.at(name);
        fs::create_dir(&place).unwrap();
        let run = |program: &str| {
            let mut command = home.command(["run", "--", "sh", "-c", program]);
            command.env("TMPDIR", &place);
            Ended::of(command.output().unwrap())
        };
        if there_is("node") {
            assert!(run(node).ok().out.starts_with("node "), "{name}");
        }
        if there_is("java") {
            let out = run(java).ok().out;
            assert!(out.contains(name), "{name}: {out}");
        }
        assert_eq!(fs::read_dir(&place).unwrap().count(), 0, "{name}");
    }
}

#[test]
fn a_temporary_folder_that_cannot_be_made_is_named() {
    let home = Home::ready();
    for (args, place) in [
        (&["run", "--", "true"][..], "/nonexistent"),
        (&["demo"], "/nonexistent"),
        (&["run", "--", "true"], "/proc"),
    ] {
        let mut command = home.command(args);
        command.env("TMPDIR", place);
        let ended = Ended::of(command.output().unwrap());
        ended.failed(1, &[place, "set TMPDIR"]);
    }
}
