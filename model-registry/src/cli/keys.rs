//! `vedette keys`: the pairs of the two roles. `models` says what is genuine and belongs offline or behind approval;
//! `fleet` says what a device should run and belongs to the registry. Devices hold only `trust.toml`.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;
use vedette_protocol::key::{KeySet, PublicKey, SigningKey, Trust};

use super::{
    Screen,
    fault::Fault,
    screen::{Column, Format, Sheet, facts, say, say_json},
};

/// Largest key or trust file that is read: an Ed25519 key in PKCS#8 and PEM has some 180 bytes, a trust file some 100 bytes a key.
const FILE_BYTES_MAX: u64 = 64 << 10;

const TRUST_FILE: &str = "trust.toml";

/// Verbs on keys.
#[derive(Debug, Subcommand)]
pub enum Keys {
    /// Make models.key, fleet.key (mode 0600) and trust.toml; never overwrites
    Init(Folder),
    /// The keys that trust.toml names, and whether their private halves lie beside it
    List(Folder),
    /// A role's keys, or the public half of a private key file
    Show(Show),
}

/// Where keys lie.
#[derive(Debug, Args)]
pub struct Folder {
    /// The folder with the keys
    #[arg(long, default_value = "keys")]
    dir: PathBuf,
}

/// What `keys show` shows.
#[derive(Debug, Args)]
pub struct Show {
    /// `models`, `fleet`, or a private key file
    what: String,
    #[command(flatten)]
    folder: Folder,
}

/// A role whose keys devices trust.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum Role {
    Models,
    Fleet,
}

impl Role {
    const ALL: [Self; 2] = [Self::Models, Self::Fleet];

    const fn name(self) -> &'static str {
        match self {
            Self::Models => "models",
            Self::Fleet => "fleet",
        }
    }

    fn file(self, dir: &Path) -> PathBuf {
        dir.join(format!("{}.key", self.name()))
    }

    const fn keys(self, trust: &Trust) -> &KeySet {
        match self {
            Self::Models => &trust.models,
            Self::Fleet => &trust.fleet,
        }
    }
}

/// A key as `list` and `show` print it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct KeyView {
    role: &'static str,
    id: String,
    public: String,
    /// Where its private half lies, if it was found.
    #[serde(skip_serializing_if = "Option::is_none")]
    private: Option<String>,
}

/// Runs a verb on keys.
///
/// # Errors
/// Refused when a file would be overwritten; not found; failed when a file cannot be read or written.
pub fn run(verb: Keys, screen: Screen) -> Result<(), Fault> {
    match verb {
        Keys::Init(folder) => init(&folder.dir, screen),
        Keys::List(folder) => print(&list(&folder.dir)?, screen),
        Keys::Show(show) => print(&shown(&show)?, screen),
    }
}

fn init(dir: &Path, screen: Screen) -> Result<(), Fault> {
    let wanted = [Role::Models.file(dir), Role::Fleet.file(dir), dir.join(TRUST_FILE)];
    if let Some(path) = wanted.iter().find(|path| path.exists()) {
        return Err(Fault::refused(format!(
            "couldn't make keys in {}: {} is already there and keys are never overwritten; choose another --dir",
            dir.display(),
            path.display()
        )));
    }
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(|error| Fault::file("make the folder", dir, &error))?;
    let trust = Trust { models: make_key(Role::Models, dir)?, fleet: make_key(Role::Fleet, dir)? };
    write_new(&dir.join(TRUST_FILE), trust.to_toml().as_bytes(), 0o644)?;
    match screen.format {
        Format::Json => print(&list(dir)?, screen),
        Format::Text => say(&format!(
            "Made {dir}/models.key, {dir}/fleet.key and {dir}/trust.toml.\n\
             Keep models.key away from the registry's machine; give fleet.key to the registry and trust.toml to every device.\n",
            dir = dir.display()
        )),
    }
}

/// Makes a role's pair, writes the private half, and returns a role that it alone fills.
fn make_key(role: Role, dir: &Path) -> Result<KeySet, Fault> {
    let (key, pkcs8) =
        SigningKey::generate().map_err(|error| Fault::failed(format!("couldn't make a key: {error}")))?;
    write_new(&role.file(dir), SigningKey::pem(&pkcs8).as_bytes(), 0o600)?;
    Ok(KeySet::single(key.public()))
}

/// Writes a file that must not exist yet, durably, with its mode from the first byte on.
fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Fault> {
    let write = || {
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => {
            Fault::refused(format!("couldn't write {}: it is already there", path.display()))
        }
        _ => Fault::file("write", path, &error),
    })
}

fn list(dir: &Path) -> Result<Vec<KeyView>, Fault> {
    let trust = read_trust(&dir.join(TRUST_FILE))?;
    let mut views = Vec::new();
    for role in Role::ALL {
        views.extend(role_keys(role, &trust, dir)?);
    }
    Ok(views)
}

fn role_keys(role: Role, trust: &Trust, dir: &Path) -> Result<Vec<KeyView>, Fault> {
    let path = role.file(dir);
    let private = if path.exists() { Some(read_key(&path)?.public()) } else { None };
    let view = |key: &PublicKey| KeyView {
        role: role.name(),
        id: key.id().to_string(),
        public: key.to_string(),
        private: private.as_ref().filter(|public| *public == key).map(|_| path.display().to_string()),
    };
    Ok(role.keys(trust).keys.iter().map(view).collect())
}

fn shown(show: &Show) -> Result<Vec<KeyView>, Fault> {
    if let Some(role) = Role::ALL.into_iter().find(|role| role.name() == show.what) {
        return role_keys(role, &read_trust(&show.folder.dir.join(TRUST_FILE))?, &show.folder.dir);
    }
    let path = Path::new(&show.what);
    let public = read_key(path)?.public();
    Ok(vec![KeyView {
        role: "",
        id: public.id().to_string(),
        public: public.to_string(),
        private: Some(path.display().to_string()),
    }])
}

fn print(views: &[KeyView], screen: Screen) -> Result<(), Fault> {
    match (screen.format, views) {
        (Format::Json, _) => say_json(views),
        (Format::Text, [one]) if one.role.is_empty() => {
            say(&facts(&[("key", one.id.clone()), ("public", one.public.clone())]))
        }
        (Format::Text, _) => {
            let mut sheet = Sheet::new(&[
                Column::Text("ROLE"),
                Column::Text("KEY"),
                Column::Text("PUBLIC"),
                Column::Text("PRIVATE"),
            ]);
            for view in views {
                let private = view.private.clone().unwrap_or_else(|| "-".to_owned());
                sheet.row([view.role.to_owned(), view.id.clone(), view.public.clone(), private]);
            }
            say(&sheet.render(screen.colour, "no keys"))
        }
    }
}

fn read_trust(path: &Path) -> Result<Trust, Fault> {
    let text = String::from_utf8(read_small(path)?)
        .map_err(|_| Fault::usage(format!("couldn't read {}: it is not text", path.display())))?;
    Trust::from_toml(&text).map_err(|error| Fault::usage(format!("couldn't read {}: {error}", path.display())))
}

/// Reads a private key file: PKCS#8 in PEM, as `keys init` or OpenSSL writes it.
///
/// # Errors
/// Not found; usage when it is no Ed25519 key in PKCS#8.
pub fn read_key(path: &Path) -> Result<SigningKey, Fault> {
    let text = String::from_utf8_lossy(&read_small(path)?).into_owned();
    SigningKey::from_pem(&text).map_err(|error| {
        Fault::usage(format!("couldn't use the key {}: {error}; `vedette keys init` makes one", path.display()))
    })
}

fn read_small(path: &Path) -> Result<Vec<u8>, Fault> {
    let length = fs::metadata(path).map_err(|error| Fault::file("read", path, &error))?.len();
    if length > FILE_BYTES_MAX {
        return Err(Fault::usage(format!("couldn't read {}: {length} bytes are too many for a key", path.display())));
    }
    fs::read(path).map_err(|error| Fault::file("read", path, &error))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt as _;

    use vedette_protocol::exit::Exit;

    use super::*;
    use crate::cli::screen::Colour;

    const SCREEN: Screen = Screen { format: Format::Json, colour: Colour::No };

    #[test]
    fn init_makes_private_keys_that_only_their_owner_reads_and_a_trust_that_names_them() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("keys");
        init(&dir, SCREEN).unwrap();
        for name in ["models.key", "fleet.key"] {
            assert_eq!(fs::metadata(dir.join(name)).unwrap().permissions().mode() & 0o777, 0o600);
        }
        let trust = read_trust(&dir.join(TRUST_FILE)).unwrap();
        assert_eq!(trust.models.keys, [read_key(&dir.join("models.key")).unwrap().public()]);
        assert_eq!(trust.fleet.keys, [read_key(&dir.join("fleet.key")).unwrap().public()]);
        assert_eq!((trust.models.threshold, trust.fleet.threshold), (1, 1));
        assert!(list(&dir).unwrap().iter().all(|view| view.private.is_some()));
    }

    #[test]
    fn init_overwrites_nothing() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("fleet.key"), b"precious").unwrap();
        let fault = init(folder.path(), SCREEN).unwrap_err();
        assert_eq!(fault.exit, Exit::Refused);
        assert!(fault.message.contains("fleet.key"), "{fault}");
        assert_eq!(fs::read(folder.path().join("fleet.key")).unwrap(), b"precious");
        assert!(!folder.path().join("models.key").exists());
    }

    #[test]
    fn a_missing_key_is_not_found_and_a_wrong_one_is_usage() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read_key(&folder.path().join("none")).err().unwrap().exit, Exit::NotFound);
        fs::write(folder.path().join("bad.key"), b"not a key").unwrap();
        let fault = read_key(&folder.path().join("bad.key")).err().unwrap();
        assert_eq!(fault.exit, Exit::Usage);
        assert!(fault.message.contains("bad.key"), "{fault}");
    }
}
