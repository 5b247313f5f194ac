//! `.env.example` is the list of all settings, and this test keeps it so: it is written from the code. What
//! `docker-compose.yml` and the `Dockerfile` name has to exist.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    path::{Path, PathBuf},
};

use clap::CommandFactory as _;
use serde_norway::Value;

/// What only `docker-compose.yml` reads: name and explanation.
const COMPOSE_ONLY: [(&str, &str); 2] = [
    ("POSTGRES_PASSWORD", "Password of the Postgres that Compose starts; letters and digits, as it is part of a URL"),
    ("S3_PASSWORD", "Password of the MinIO that Compose starts; at least 8 characters"),
];

/// A file at the root of the repository.
fn root(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name)
}

fn read(name: &str) -> String {
    std::fs::read_to_string(root(name)).unwrap_or_default()
}

fn commands() -> [(&'static str, clap::Command); 3] {
    [
        ("api", api::Config::command()),
        ("worker", worker::Config::command()),
        ("scheduler", scheduler::Config::command()),
    ]
}

struct Setting {
    help: String,
    default: Option<String>,
    processes: Vec<&'static str>,
}

fn settings() -> BTreeMap<String, Setting> {
    let mut settings = BTreeMap::<String, Setting>::new();
    for (process, command) in commands() {
        for argument in command.get_arguments() {
            let Some(name) = argument.get_env() else { continue };
            let defaults: Vec<_> =
                argument.get_default_values().iter().map(|v| v.to_string_lossy().into_owned()).collect();
            let help = argument.get_long_help().or(argument.get_help()).map(ToString::to_string).unwrap_or_default();
            let default = (!defaults.is_empty() || !argument.is_required_set()).then(|| defaults.join(","));
            let name = name.to_string_lossy().into_owned();
            let setting = settings.entry(name.clone()).or_insert(Setting { help, default, processes: Vec::new() });
            assert!(!setting.help.is_empty(), "{name} of {process} is not explained");
            setting.processes.push(process);
        }
    }
    settings
}

fn render(settings: &BTreeMap<String, Setting>) -> String {
    let mut text = String::from(
        "# Every setting of api, worker and scheduler, with its default; written from the code by\n\
         #   UPDATE=1 cargo test -p sandbox --test it env_example\n\
         # Each is also a flag (--database-url …), see --help. Lines without # have no default and must be set.\n\
         # Schedules are set by SCHEDULE_<NAME>, see docs/JOBS.md.\n\
         \n# For docker-compose.yml only:\n",
    );
    for (name, help) in COMPOSE_ONLY {
        let _ = write!(text, "# {help}\n{name}=\n");
    }
    for (name, setting) in settings {
        let help: Vec<_> = setting.help.lines().map(|line| format!("# {line}").trim_end().to_owned()).collect();
        let _ = write!(text, "\n# [{}]\n{}\n", setting.processes.join(", "), help.join("\n"));
        let _ = match &setting.default {
            Some(default) => writeln!(text, "#{name}={default}"),
            None => writeln!(text, "{name}="),
        };
    }
    text
}

#[test]
fn env_example_lists_every_setting_with_its_default() {
    let expected = render(&settings());
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(root(".env.example"), &expected).expect("it can be written");
    }
    assert!(read(".env.example") == expected, "not up to date: UPDATE=1 cargo test -p sandbox --test it env_example");
}

/// With anchors and merge keys resolved.
fn compose() -> Value {
    let mut compose: Value = serde_norway::from_str(&read("docker-compose.yml")).expect("right YAML");
    compose.apply_merge().expect("right merge keys");
    compose
}

fn services(compose: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let services = compose["services"].as_mapping().expect("services");
    services.iter().map(|(name, service)| (name.as_str().expect("a name"), service))
}

/// The service's name, where it is built from our Dockerfile.
fn built(service: &Value) -> Option<&str> {
    service["build"]["args"]["BIN"].as_str()
}

/// The names in `${NAME}`, `${NAME:-default}` and `${NAME:?error}`, and whether the name has to be set.
fn variables(text: &str) -> Vec<(String, bool)> {
    let mut found = Vec::new();
    for part in text.split("${").skip(1) {
        let name: String = part.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
        found.push((name.clone(), part[name.len()..].starts_with(":?")));
    }
    found
}

#[test]
fn compose_sets_and_asks_for_settings_that_exist() {
    let (settings, compose) = (settings(), compose());
    let compose_only: BTreeSet<&str> = COMPOSE_ONLY.iter().map(|(name, _)| *name).collect();
    let mut built_services = 0;
    for (name, service) in services(&compose).filter(|(_, service)| built(service).is_some()) {
        built_services += 1;
        for variable in service["environment"].as_mapping().expect("an environment").keys() {
            let variable = variable.as_str().expect("a name");
            assert!(settings.contains_key(variable), "{name} gets {variable}, which nobody reads");
        }
    }
    assert_eq!(built_services, 3);

    let asked = variables(&read("docker-compose.yml"));
    for (name, required) in &asked {
        let known = settings.contains_key(name) || compose_only.contains(name.as_str());
        assert!(known, "docker-compose.yml asks for {name}, which .env.example does not list");
        assert!(!required || compose_only.contains(name.as_str()), "{name} has to be explained as Compose's");
    }
    let asked: BTreeSet<&str> = asked.iter().map(|(name, _)| name.as_str()).collect();
    assert!(compose_only.is_subset(&asked), "Compose does not read all of {compose_only:?}");
}

#[test]
fn what_the_processes_need_is_set_by_compose_or_asked_for_in_env_example() {
    let (settings, compose) = (settings(), compose());
    let example = read(".env.example");
    for (name, service) in services(&compose).filter(|(_, service)| built(service).is_some()) {
        for (variable, _) in settings.iter().filter(|(_, s)| s.default.is_none() && s.processes.contains(&name)) {
            let here = service["environment"].get(variable.as_str()).is_some();
            assert!(here || example.contains(&format!("\n{variable}=\n")), "{name} has no {variable}");
        }
        // Defaults that lead to this machine lead nowhere in a container.
        for (variable, _) in settings.iter().filter(|(_, s)| {
            let local = s.default.as_deref().is_some_and(|d| d.contains("://127.0.0.1") || d.starts_with("127.0.0.1:"));
            local && s.processes.contains(&name)
        }) {
            assert!(
                service["environment"].get(variable.as_str()).is_some(),
                "{name} would use its own machine's {variable}"
            );
        }
    }
}

#[test]
fn what_is_built_into_images_exists() {
    let compose = compose();
    for (name, service) in services(&compose) {
        let Some(bin) = built(service) else { continue };
        let (_, command) = commands().into_iter().find(|(process, _)| *process == bin).expect(bin);
        assert_eq!(name, bin);
        assert!(root(bin).join("src/main.rs").is_file(), "{bin} is no program");
        let arguments = service["command"].as_sequence().into_iter().flatten();
        for flag in arguments.filter_map(|a| a.as_str()?.strip_prefix("--")) {
            assert!(command.get_arguments().any(|a| a.get_long() == Some(flag)), "{bin} knows no --{flag}");
        }
    }
    let dockerfile = read("Dockerfile");
    let named = dockerfile.lines().find_map(|line| line.split_once("BIN=")).expect("BIN is explained").1;
    let named: Vec<&str> = named.split([' ', '|']).take(3).collect();
    assert_eq!(named, commands().map(|(process, _)| process), "the Dockerfile names other programs");
}

/// Jitsi's images are not here: what can be wrong in our file is its form, a variable that nobody explains, and a module that is
/// not mounted.
#[test]
fn the_compose_file_of_a_jitsi_mounts_our_modules_and_explains_its_variables() {
    let file = "deploy/jitsi/docker-compose.jitsi.yml";
    let mut compose: Value = serde_norway::from_str(&read(file)).expect("right YAML");
    compose.apply_merge().expect("right merge keys");
    let names: Vec<&str> = services(&compose).map(|(name, _)| name).collect();
    assert_eq!(names, ["web", "prosody", "jicofo", "jvb"]);
    let mut mounted = Vec::new();
    for (name, service) in services(&compose) {
        for volume in service["volumes"].as_sequence().expect("volumes") {
            let (source, _) = volume.as_str().expect("a text").split_once(':').expect("a target");
            match source.strip_prefix("../") {
                Some(path) => {
                    assert!(root("deploy").join(path).is_file(), "{name} mounts {source}, which is not there");
                    mounted.push(path.to_owned());
                }
                None => assert!(compose["volumes"].get(source).is_some(), "{name}: there is no volume {source}"),
            }
        }
    }
    assert_eq!(mounted, ["prosody/mod_webhook.lua", "prosody/mod_webhook_control.lua"]);
    let prosody = &compose["services"]["prosody"]["environment"];
    assert_eq!(prosody["XMPP_MODULES"], "webhook");
    let options = prosody["XMPP_CONFIGURATION"].as_str().expect("options");
    for option in ["webhook_url", "webhook_secret", "webhook_control_secret"] {
        assert!(options.split(',').any(|part| part.starts_with(&format!("{option}=\""))), "{option}");
    }
    let example = read("deploy/jitsi/.env.example");
    let explained: BTreeSet<&str> = example.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    for (name, _) in variables(&read(file)) {
        assert!(explained.contains(name.as_str()), "{name} is not in deploy/jitsi/.env.example");
    }
}
