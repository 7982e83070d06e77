//! Watches the configuration file, and every file it names, by what they hold: neither times nor inodes tell of links that lead
//! elsewhere, as Kubernetes swaps them.

use std::path::Path;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};
use tracing::{error, info};

use super::Daemon;
use super::reload::Cause;
use crate::config::Config;
use crate::tls::Contents;

/// What was tried last, whatever came of it: the same is not tried again.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Tried(Contents);

impl Tried {
    /// Of a configuration that was read from `path`, and whose files are about to be read.
    pub(super) fn of(config: &Config, path: &Path) -> Self {
        Self(Contents::of(config.files()).with(path, &config.text.0))
    }

    /// Of the same files as they are now: that of the configuration may turn out to say nothing.
    pub(super) fn unread(&self) -> Self {
        Self(self.0.again())
    }

    /// The same, and what is in `files` beside.
    fn and(self, files: &Contents) -> Self {
        Self(self.0.and(files))
    }

    /// Whether the configuration itself, at `path`, says the same as in `other`.
    fn has_text_of(&self, other: &Self, path: &Path) -> bool {
        !self.0.changed(&other.0).any(|changed| changed == path)
    }
}

/// Looks from time to time.
pub(super) struct Watch {
    /// When the last look was over.
    last: Instant,
    /// A look under way: a file system that hangs holds nothing else up.
    looking: Option<JoinHandle<Tried>>,
    /// Something else than was tried, seen once: it may be half written.
    seen: Option<Tried>,
}

impl Watch {
    pub(super) fn new() -> Self {
        Self {
            last: Instant::now(),
            looking: None,
            seen: None,
        }
    }

    /// What the files hold, when that is something else than was `tried`, twice in a row; never where it is not looked `every`
    /// so often. What is dropped while it waits goes on where it was.
    pub(super) async fn change(&mut self, every: Option<Duration>, tried: &Tried) -> Tried {
        loop {
            if let Some(looking) = &mut self.looking {
                let found = looking.await;
                self.looking = None;
                self.last = Instant::now();
                if let Ok(found) = found
                    && let Some(found) = self.settled(found, tried)
                {
                    return found;
                }
            }
            match every {
                Some(every) => sleep_until(self.last + every).await,
                None => std::future::pending().await,
            }
            let tried = tried.clone();
            self.looking = Some(tokio::task::spawn_blocking(move || tried.unread()));
        }
    }

    fn settled(&mut self, found: Tried, tried: &Tried) -> Option<Tried> {
        let before = self.seen.take();
        if found == *tried {
            return None;
        }
        if before.as_ref() == Some(&found) {
            return before;
        }
        self.seen = Some(found);
        None
    }
}

impl Daemon {
    /// Reloads: the files hold what was `found` just now. A configuration that was gone back from stays gone until somebody
    /// writes another: the files that the one in use names are taken over all the same.
    pub(super) async fn follow_files(&mut self, found: Tried) {
        info!("configuration files have changed");
        let gone_back_from = self.gone_back_from.as_ref();
        let is_gone = gone_back_from.is_some_and(|gone| gone.has_text_of(&found, &self.path));
        // If it cannot even be told what comes of it, that is enough of it, too.
        self.tried = found.clone();
        // What came of it is logged.
        if is_gone || self.reload(Cause::Watch).await.is_err() {
            self.follow_named(&found.0).await;
        }
    }

    /// Takes over what other files than the configuration hold now, under the one in use.
    async fn follow_named(&mut self, found: &Contents) {
        if found.changed(&self.files).next().is_none() {
            return;
        }
        if let Some(Err(problems)) = self.renew("files reloaded").await {
            error!(%problems, "changed files rejected; those in use stay until the files change again");
        }
    }

    /// This was read for a reload.
    pub(super) fn has_tried(&mut self, tried: Tried) {
        let gone = self.gone_back_from.take();
        self.gone_back_from = gone.filter(|gone| gone.has_text_of(&tried, &self.path));
        self.tried = tried;
    }

    /// An earlier configuration is in use, or what was tried is not.
    pub(super) fn watch_those_in_use_too(&mut self) {
        self.tried = self.tried.clone().and(&self.files);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_is_half_written_is_waited_for_and_what_was_tried_is_not_tried_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("b.toml");
        let write = |text: &str| fs::write(&path, text).unwrap();
        write("one");
        let mut tried = Tried(Contents::default().with(&path, "one"));
        let mut watch = Watch::new();
        let mut look = |tried: &Tried| watch.settled(tried.unread(), tried);
        assert_eq!(look(&tried), None);
        write("tw");
        assert_eq!(look(&tried), None);
        write("two");
        assert_eq!(look(&tried), None, "it is being written");
        let found = look(&tried);
        assert!(found.is_some());
        tried = found.unwrap();
        assert_eq!(look(&tried), None);
        assert_eq!(look(&tried), None);
        // Changed for a moment only.
        write("three");
        assert_eq!(look(&tried), None);
        write("two");
        assert_eq!(look(&tried), None);
        write("three");
        assert_eq!(look(&tried), None);
        assert!(look(&tried).is_some());
    }

    #[test]
    fn every_file_that_is_named_counts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("b.toml");
        let text = "[error_pages]\n\"503\" = \"503.txt\"\n\
                    [listener.l]\naddress = \"127.0.0.1:1\"\ntls.certificates = [{ chain = \"l.pem\", key = \"l.key\" }]\n\
                    [upstream.u]\nendpoints = [\"h:1\"]\n\
                    tls = { ca = \"ca.pem\", client_certificate = { chain = \"c.pem\", key = \"c.key\" } }\n\
                    affinity = { cookie = \"c\", key_file = \"a.key\" }\n\
                    [[route]]\nupstream = \"u\"\n";
        let config = crate::config::parse(text, &path).unwrap();
        let tried = Tried::of(&config, &path);
        assert_eq!(config.files().count(), 7);
        fs::write(&path, text).unwrap();
        assert_eq!(tried.unread(), tried);
        for file in config.files() {
            fs::write(file, "x").unwrap();
            assert_ne!(tried.unread(), tried, "{}", file.display());
            fs::remove_file(file).unwrap();
        }
        assert_eq!(tried.unread(), tried);
    }
}
