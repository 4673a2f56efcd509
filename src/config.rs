//! What one node is told at its start: flags, Kafka's `server.properties`, `--set`, defaults.
//!
//! Flags beat `--set`, that beats the file, that beats the default. All names are Kafka's; a wrong
//! one is refused with the nearest right one, a wrong value in Kafka's words.

pub mod machine;
pub mod properties;

use crate::base::ids::NodeId;
use crate::base::limits::{MIB, SHARDS_COUNT_MAX};
use crate::cluster::metadata::Overrides;
use crate::cluster::settings::{
    Effect, Layers, ValueError, broker_setting, check_value, list_items, nearest, topic_setting,
};
use machine::{Machine, cpu_list};
use std::fmt;
use std::fs;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Largest settings file, bytes: Kafka's own is 7 KiB.
const FILE_BYTES_MAX: u64 = MIB as u64;

/// Least memory for a shard, bytes: buffers of a few connections and partitions.
const MEMORY_BYTES_PER_CPU_MIN: usize = 64 * MIB;

/// Share of the machine's memory that a node takes when not told: other programs live there too.
const MEMORY_SHARE_DEFAULT: usize = 4;

/// Most memory that a node takes when not told, bytes. A page that is touched for the first time is
/// dear, on a virtual machine above all: with 6 GiB the first seconds of an ingest ran at 280 MB/s,
/// where 512 MiB, soon used again, gave 745. A consumer that lags reads from the disk.
const MEMORY_BYTES_DEFAULT_MAX: usize = 1024 * MIB;

/// Flags of `ringmain serve`.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ServeArgs {
    /// Directory of all data; created where it is missing [default: ./ringmain-data]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Address to accept clients on [default: 127.0.0.1:9092]
    #[arg(long, value_name = "HOST:PORT")]
    pub listen: Option<String>,
    /// Address that clients are told to connect to [default: the listening one]
    #[arg(long, value_name = "HOST[:PORT]")]
    pub advertise: Option<String>,
    /// How many cpus to use, or which: 2 or 0-3 or 0,2 [default: all; of two, the second]
    #[arg(long, value_name = "CPUS")]
    pub cpus: Option<String>,
    /// Memory for buffers, as 512M or 4G [default: a quarter of the machine's, at most 1G]
    #[arg(long, value_name = "BYTES")]
    pub memory: Option<String>,
    /// File of settings in the syntax and with the names of Kafka's server.properties
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// One setting by Kafka's name; may be given again
    #[arg(long = "set", value_name = "NAME=VALUE")]
    pub set: Vec<String>,
}

/// A host, by name or number, and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    pub host: String,
    pub port: u16,
}

impl Endpoint {
    /// The addresses of this host, in the resolver's order.
    ///
    /// # Errors
    /// [`ConfigError::Unresolved`]: the name has none.
    pub fn resolve(&self) -> Result<Vec<SocketAddr>, ConfigError> {
        let unresolved =
            |reason: String| ConfigError::Unresolved { host: self.host.clone(), reason };
        let found = (self.host.as_str(), self.port).to_socket_addrs();
        let addresses: Vec<_> = found.map_err(|error| unresolved(error.to_string()))?.collect();
        if addresses.is_empty() {
            return Err(unresolved("the name has no address".to_owned()));
        }
        Ok(addresses)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Everything that one node is told.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    pub node_id: NodeId,
    pub data_dir: PathBuf,
    pub listen: Endpoint,
    /// Where clients are sent; port 0 stands for the port that was bound. See
    /// [`Settings::advertised`].
    pub advertise: Endpoint,
    pub rack: Option<String>,
    /// One shard on each.
    pub cpus: Vec<usize>,
    pub memory_bytes: usize,
    /// Every setting that was given, by Kafka's names: the layer below the dynamic ones.
    pub fixed: Arc<Overrides>,
    /// Given settings that nothing acts on, to be said once at start.
    pub without_effect: Vec<String>,
}

impl Settings {
    /// The settings of a node started here with these flags.
    ///
    /// # Errors
    /// [`ConfigError`]: the first thing that is wrong, as one sentence.
    pub fn load(args: &ServeArgs) -> Result<Settings, ConfigError> {
        let file = args.config.as_deref().map(read_file).transpose()?;
        Settings::from_parts(args, file.as_deref(), &Machine::here())
    }

    /// As [`Settings::load`], from a file's text and a machine in hand.
    ///
    /// # Errors
    /// As [`Settings::load`].
    pub fn from_parts(
        args: &ServeArgs,
        file: Option<&str>,
        machine: &Machine,
    ) -> Result<Settings, ConfigError> {
        let mut fixed = Overrides::new();
        if let Some(text) = file {
            take_file(args.config.as_deref().unwrap_or(Path::new("settings")), text, &mut fixed)?;
        }
        for text in &args.set {
            let (name, value) = text
                .split_once('=')
                .ok_or_else(|| ConfigError::NotASetting { text: text.clone() })?;
            take(name.trim(), value.trim(), "--set", &mut fixed)?;
        }
        take_flags(args, &mut fixed)?;
        let layers = Layers::of_file(&fixed);
        let listen = listen_endpoint(&layers)?;
        let advertise = advertised_endpoint(&layers, &listen, machine)?;
        let data_dir = data_dir(&layers)?;
        let cpus = args
            .cpus
            .as_deref()
            .map_or_else(|| Ok(default_cpus(machine)), |text| chosen_cpus(text, machine))?;
        let memory_bytes = chosen_memory(args.memory.as_deref(), cpus.len(), machine)?;
        Ok(Settings {
            node_id: node_id(&layers, &fixed),
            data_dir,
            listen,
            advertise,
            rack: layers.broker_value("broker.rack").map(str::to_owned),
            cpus,
            memory_bytes,
            without_effect: settings_without_effect(&fixed),
            fixed: Arc::new(fixed),
        })
    }

    /// Where clients are sent, once it is known which port was bound.
    pub fn advertised(&self, bound_port: u16) -> Endpoint {
        let port = if self.advertise.port == 0 { bound_port } else { self.advertise.port };
        Endpoint { host: self.advertise.host.clone(), port }
    }
}

/// What is wrong with the settings; each is one sentence for the person who gave them.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read the settings file {}: {reason}", path.display())]
    Unreadable { path: PathBuf, reason: String },
    #[error("{}, {error}", path.display())]
    Syntax { path: PathBuf, error: properties::PropertiesError },
    #[error("--set {text:?} is not of the form name=value")]
    NotASetting { text: String },
    #[error("{place}: there is no setting {name:?}{}", suggestion.as_deref().unwrap_or(""))]
    UnknownSetting { place: String, name: String, suggestion: Option<String> },
    #[error("{place}: {error}")]
    WrongValue { place: String, error: ValueError },
    #[error("{name} {value:?}: {reason}")]
    WrongFlag { name: &'static str, value: String, reason: String },
    #[error("the host {host:?} cannot be resolved: {reason}")]
    Unresolved { host: String, reason: String },
}

fn read_file(path: &Path) -> Result<String, ConfigError> {
    let unreadable = |reason: String| ConfigError::Unreadable { path: path.to_path_buf(), reason };
    let bytes = fs::metadata(path).map_err(|error| unreadable(error.to_string()))?.len();
    if bytes > FILE_BYTES_MAX {
        return Err(unreadable(format!("it has {bytes} bytes, at most {FILE_BYTES_MAX} are read")));
    }
    fs::read_to_string(path).map_err(|error| unreadable(error.to_string()))
}

fn take_file(path: &Path, text: &str, fixed: &mut Overrides) -> Result<(), ConfigError> {
    let properties = properties::parse(text)
        .map_err(|error| ConfigError::Syntax { path: path.to_path_buf(), error })?;
    for property in properties {
        let place = format!("{}, line {}", path.display(), property.line);
        take(&property.name, property.value.trim(), &place, fixed)?;
    }
    Ok(())
}

/// Takes one setting, if there is such a one and it takes such a value.
fn take(name: &str, value: &str, place: &str, fixed: &mut Overrides) -> Result<(), ConfigError> {
    let Some(setting) = broker_setting(name) else {
        return Err(ConfigError::UnknownSetting {
            place: place.to_owned(),
            name: name.to_owned(),
            suggestion: suggestion(name),
        });
    };
    check_value(name, setting.kind, setting.check, value)
        .map_err(|error| ConfigError::WrongValue { place: place.to_owned(), error })?;
    fixed.insert(name.to_owned(), value.to_owned());
    Ok(())
}

fn suggestion(name: &str) -> Option<String> {
    let of_broker = topic_setting(name).and_then(|setting| setting.synonyms.first());
    match of_broker {
        Some(synonym) => Some(format!("; that is a topic's, the node's is {:?}", synonym.name)),
        None => nearest(name).map(|nearest| format!("; did you mean {nearest:?}?")),
    }
}

fn take_flags(args: &ServeArgs, fixed: &mut Overrides) -> Result<(), ConfigError> {
    if let Some(dir) = &args.data_dir {
        let text = dir.to_str().filter(|text| !text.is_empty() && !text.contains(','));
        let text = text.ok_or_else(|| ConfigError::WrongFlag {
            name: "--data-dir",
            value: dir.display().to_string(),
            reason: "it is not one plain path".to_owned(),
        })?;
        fixed.insert("log.dirs".to_owned(), text.to_owned());
    }
    if let Some(text) = &args.listen {
        let endpoint = endpoint("--listen", text, None)?;
        fixed.insert("listeners".to_owned(), format!("PLAINTEXT://{endpoint}"));
    }
    if let Some(text) = &args.advertise {
        let endpoint = endpoint("--advertise", text, Some(0))?;
        fixed.insert("advertised.listeners".to_owned(), format!("PLAINTEXT://{endpoint}"));
    }
    Ok(())
}

/// Reads `host:port`, `[v6]:port`, and `host` alone where there is a port to fall back on.
fn endpoint(
    name: &'static str,
    text: &str,
    port_default: Option<u16>,
) -> Result<Endpoint, ConfigError> {
    let refused = |reason: &str| {
        Err(ConfigError::WrongFlag { name, value: text.to_owned(), reason: reason.to_owned() })
    };
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((host, "")) => (host, None),
            Some((host, port)) => (host, port.strip_prefix(':').or(Some(""))),
            None => return refused("the bracket is not closed"),
        },
        None => match text.rsplit_once(':') {
            Some((host, _)) if host.contains(':') => {
                return refused("an IPv6 address stands in brackets, as in [::1]:9092");
            }
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let port = match port {
        Some(port) => port.parse().ok(),
        None => port_default,
    };
    let Some(port) = port else {
        return refused("host:port is expected, with a port from 0 to 65535");
    };
    if host.chars().any(|letter| letter.is_whitespace() || letter == '/') {
        return refused("that is not a host's name or address");
    }
    Ok(Endpoint { host: host.to_owned(), port })
}

/// The listeners of a Kafka list that serve clients: those of controllers are left out.
fn client_listeners(
    name: &'static str,
    text: &str,
    layers: &Layers,
) -> Result<Vec<Endpoint>, ConfigError> {
    let refused =
        |reason: String| Err(ConfigError::WrongFlag { name, value: text.to_owned(), reason });
    let controllers = layers.broker_value("controller.listener.names").unwrap_or("");
    let protocols = layers.broker_value("listener.security.protocol.map").unwrap_or("");
    let mut endpoints = Vec::new();
    for item in list_items(text) {
        let Some((listener, address)) = item.split_once("://") else {
            return refused(format!("{item:?} is not of the form NAME://host:port"));
        };
        if list_items(controllers).any(|controller| controller == listener) {
            continue;
        }
        let mapped = list_items(protocols).find_map(|pair| {
            pair.split_once(':').filter(|(known, _)| *known == listener).map(|(_, to)| to)
        });
        if mapped.unwrap_or(listener) != "PLAINTEXT" {
            return refused(format!("{listener} is not served, only PLAINTEXT is"));
        }
        endpoints.push(endpoint(name, address, None)?);
    }
    Ok(endpoints)
}

fn listen_endpoint(layers: &Layers) -> Result<Endpoint, ConfigError> {
    let text = layers.broker_value("listeners").expect("listeners has a default");
    let mut endpoints = client_listeners("listeners", text, layers)?;
    if endpoints.len() != 1 {
        let count = endpoints.len();
        let reason = format!("exactly one listener for clients is expected, there are {count}");
        return Err(ConfigError::WrongFlag { name: "listeners", value: text.to_owned(), reason });
    }
    let mut endpoint = endpoints.remove(0);
    if endpoint.host.is_empty() {
        endpoint.host = "0.0.0.0".to_owned(); // Kafka: no host is every address
    }
    Ok(endpoint)
}

fn advertised_endpoint(
    layers: &Layers,
    listen: &Endpoint,
    machine: &Machine,
) -> Result<Endpoint, ConfigError> {
    let everywhere = |host: &str| matches!(host, "" | "0.0.0.0" | "::");
    let Some(text) = layers.broker_value("advertised.listeners").filter(|text| !text.is_empty())
    else {
        let host = if everywhere(&listen.host) { &machine.hostname } else { &listen.host };
        return Ok(Endpoint { host: host.clone(), port: listen.port });
    };
    let refused = |reason: &str| {
        let (name, reason) = ("advertised.listeners", reason.to_owned());
        Err(ConfigError::WrongFlag { name, value: text.to_owned(), reason })
    };
    let mut endpoints = client_listeners("advertised.listeners", text, layers)?;
    if endpoints.len() != 1 {
        return refused("exactly one address for clients is expected");
    }
    let mut endpoint = endpoints.remove(0);
    if everywhere(&endpoint.host) {
        return refused("clients cannot connect to that address; name one that they can reach");
    }
    if endpoint.port == 0 {
        endpoint.port = listen.port;
    }
    Ok(endpoint)
}

/// `node.id`, or `broker.id` where only that older name was given.
fn node_id(layers: &Layers, fixed: &Overrides) -> NodeId {
    let number = |name: &str| layers.broker_value(name).and_then(|text| text.trim().parse().ok());
    let older = number("broker.id").filter(|id| *id >= 0 && !fixed.contains_key("node.id"));
    NodeId(older.or_else(|| number("node.id")).expect("node.id has a default"))
}

fn data_dir(layers: &Layers) -> Result<PathBuf, ConfigError> {
    let several = layers.broker_value("log.dirs");
    let text = several.or_else(|| layers.broker_value("log.dir")).expect("log.dir has a default");
    let mut dirs = list_items(text);
    match (dirs.next(), dirs.next()) {
        (Some(dir), None) => Ok(PathBuf::from(dir)),
        _ => Err(ConfigError::WrongFlag {
            name: "log.dirs",
            value: text.to_owned(),
            reason: "exactly one data directory is expected".to_owned(),
        }),
    }
}

/// All of them, but one of two: the kernel's disk and network work needs a core, and two shards
/// that share their cores with it take nearly twice the CPU time a small request.
fn default_cpus(machine: &Machine) -> Vec<usize> {
    match machine.cpus[..] {
        [_, second] => vec![second],
        ref all => all.iter().copied().take(SHARDS_COUNT_MAX).collect(),
    }
}

fn chosen_cpus(text: &str, machine: &Machine) -> Result<Vec<usize>, ConfigError> {
    let refused = |reason: String| {
        Err(ConfigError::WrongFlag { name: "--cpus", value: text.to_owned(), reason })
    };
    let may = machine.cpus.len();
    let cpus = if let Ok(count) = text.trim().parse::<usize>() {
        if count == 0 {
            return refused("at least one cpu is needed".to_owned());
        }
        if count > may {
            return refused(format!("this process may run on {may} cpus only"));
        }
        machine.cpus[..count].to_vec()
    } else {
        match cpu_list(text) {
            Ok(cpus) => cpus,
            Err(reason) => return refused(reason),
        }
    };
    if let Some(cpu) = cpus.iter().find(|cpu| !machine.cpus.contains(cpu)) {
        return refused(format!("this process may not run on cpu {cpu}"));
    }
    if cpus.len() > SHARDS_COUNT_MAX {
        return refused(format!("at most {SHARDS_COUNT_MAX} cpus are used"));
    }
    Ok(cpus)
}

fn chosen_memory(
    text: Option<&str>,
    cpus_count: usize,
    machine: &Machine,
) -> Result<usize, ConfigError> {
    let least = MEMORY_BYTES_PER_CPU_MIN * cpus_count;
    let Some(text) = text else {
        let share = machine.memory_bytes / MEMORY_SHARE_DEFAULT;
        return Ok(share.min(MEMORY_BYTES_DEFAULT_MAX).max(least));
    };
    let refused = |reason: String| {
        Err(ConfigError::WrongFlag { name: "--memory", value: text.to_owned(), reason })
    };
    let Some(bytes) = bytes_with_suffix(text) else {
        return refused("a number of bytes is expected, as 512M or 4G".to_owned());
    };
    if bytes < least {
        let mib = MEMORY_BYTES_PER_CPU_MIN / MIB;
        return refused(format!("each of the {cpus_count} cpus needs at least {mib}M"));
    }
    if bytes > machine.memory_bytes {
        return refused(format!("there are {}M only", machine.memory_bytes / MIB));
    }
    Ok(bytes)
}

/// A number of bytes with K, M, G or T (of 1024 each), and optionally B or iB after that.
fn bytes_with_suffix(text: &str) -> Option<usize> {
    let text = text.trim();
    let digits_end = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let (digits, suffix) = text.split_at(digits_end);
    let suffix = suffix.trim().to_ascii_uppercase();
    let unit = match suffix.strip_suffix("IB").or(suffix.strip_suffix('B')).unwrap_or(&suffix) {
        "" => 1,
        "K" => 1 << 10,
        "M" => 1 << 20,
        "G" => 1 << 30,
        "T" => 1_usize << 40,
        _ => return None,
    };
    digits.parse::<usize>().ok()?.checked_mul(unit)
}

fn settings_without_effect(fixed: &Overrides) -> Vec<String> {
    let idle = |name: &&String| {
        broker_setting(name).is_some_and(|setting| setting.effect == Effect::Without)
    };
    fixed.keys().filter(idle).cloned().collect()
}

#[cfg(test)]
mod tests;
