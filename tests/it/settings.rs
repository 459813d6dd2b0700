//! Settings as an operator gives them: flags, environment and file, seen through `mlplat-server config`.

use std::{
    path::Path,
    process::{Command, Output},
    time::Duration,
};

use mlplat_tests::binary::ServerProcess;

/// `mlplat-server config` in this folder.
fn config(folder: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    Command::new(mlplat_tests::binary::path())
        .arg("config")
        .args(arguments)
        .envs(environment.iter().copied())
        .current_dir(folder)
        .output()
        .expect("it runs")
}

fn shown(output: &Output) -> String {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn refusal(output: &Output) -> String {
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_flag_beats_the_environment_beats_the_file_beats_the_default() {
    let folder = tempfile::tempdir().expect("a folder");
    let ports =
        "listen = \"127.0.0.1:7001\"\ndata_dir = \"of-file\"\n[limits]\nquery_timeout_ms = 7\n";
    std::fs::write(folder.path().join("mlplat.toml"), ports).expect("written");
    let environment = [
        ("MLPLAT_SERVER__LISTEN", "127.0.0.1:7002"),
        ("MLPLAT_SERVER__DATA_DIR", "of-environment"),
    ];
    let all = shown(&config(
        folder.path(),
        &["--listen", "127.0.0.1:7003"],
        &environment,
    ));
    for line in [
        "listen = \"127.0.0.1:7003\"",
        "data_dir = \"of-environment\"",
        "query_timeout_ms = 7\n",
        "concurrent_queries = 4\n",
    ] {
        assert!(all.contains(line), "{line} is not in\n{all}");
    }
}

#[test]
fn text_from_the_environment_is_text_whatever_it_looks_like() {
    let folder = tempfile::tempdir().expect("a folder");
    let environment = [
        ("MLPLAT_SERVER__INSTANCE", "2026"),
        ("MLPLAT_SERVER__DATA_DIR", "007"),
        ("MLPLAT_SERVER__S3__REGION", "true"),
        ("MLPLAT_SERVER__S3__ACCESS_KEY_ID", "123456"),
        ("MLPLAT_SERVER__S3__SECRET_ACCESS_KEY", "[a, b"),
        ("MLPLAT_SERVER__LIMITS__QUERY_TIMEOUT_MS", "5"),
        (
            "MLPLAT_SERVER__SOURCES__ALLOWED_ROOTS",
            "[\"/data\", \"s3://lake/raw\"]",
        ),
    ];
    let all = shown(&config(folder.path(), &[], &environment));
    for line in [
        "instance = \"2026\"",
        "data_dir = \"007\"",
        "region = \"true\"",
        "access_key_id = \"********\"",
        "secret_access_key = \"********\"",
        "query_timeout_ms = 5\n",
        "allowed_roots = [\"/data\", \"s3://lake/raw\"]",
    ] {
        assert!(all.contains(line), "{line} is not in\n{all}");
    }
}

#[test]
fn unknown_settings_are_errors_wherever_they_come_from() {
    let folder = tempfile::tempdir().expect("a folder");
    for name in [
        "MLPLAT_SERVER__NOTHING",
        "MLPLAT_SERVER__S3__BUCKET",
        "MLPLAT_SERVER__NO__SUCH__KEY",
    ] {
        let error = refusal(&config(folder.path(), &[], &[(name, "x")]));
        let key = name.rsplit("__").next().expect("a key").to_lowercase();
        assert!(
            error.to_lowercase().contains(&key) || error.contains("`no`"),
            "{error}"
        );
    }
    std::fs::write(folder.path().join("mlplat.toml"), "[telemetry]\nlogs = 1\n").expect("written");
    let error = refusal(&config(folder.path(), &[], &[]));
    assert!(error.contains("logs"), "{error}");
}

#[test]
fn an_address_for_everybody_needs_authentication() {
    let folder = tempfile::tempdir().expect("a folder");
    for address in ["0.0.0.0:5000", "[::]:5000", "192.0.2.1:5000"] {
        let error = refusal(&config(folder.path(), &["--listen", address], &[]));
        assert!(error.contains("loopback"), "{error}");
    }
    shown(&config(folder.path(), &["--listen", "[::1]:5000"], &[]));
}

#[test]
fn a_data_folder_may_have_any_name() {
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["my data", "100%41", "a#b?c=d&e", "naïve", "[x]"] {
        let data = folder.path().join(name).join("data");
        std::fs::create_dir(folder.path().join(name)).expect("made");
        let server = ServerProcess::start(&data, &[]);
        assert!(data.join("mlplat.db").is_file(), "{name}");
        assert!(server.terminate(Duration::from_secs(10)).success());
    }
}

#[test]
fn what_cannot_be_opened_is_one_line_without_secrets() {
    let folder = tempfile::tempdir().expect("a folder");
    for (flag, value) in [
        ("--database-url", "postgres://me:hunter2@[no/x"),
        ("--database-url", "mysql://me:hunter2@db/x"),
        ("--database-url", "sqlite:///no/such/folder/x.db"),
        ("--artifact-root", "ftp://x"),
        ("--artifact-root", "s3://"),
    ] {
        let output = Command::new(mlplat_tests::binary::path())
            .args(["--listen", "127.0.0.1:0", "--data-dir", "data", flag, value])
            .env("RUST_BACKTRACE", "1")
            .current_dir(folder.path())
            .output()
            .expect("it runs");
        let error = refusal(&output);
        assert!(!error.contains("hunter2"), "{error}");
        assert!(
            error.starts_with("mlplat-server: the ") && error.lines().count() == 1,
            "{error}"
        );
    }
}
