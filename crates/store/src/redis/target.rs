//! Where Redis is: one address, or whom to ask for it.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ErrorKind, IntoConnectionInfo as _, RedisConnectionInfo,
    RedisError, RedisResult, Value,
};

use crate::open::address::{Address, Credentials, UrlError};
use crate::{ANSWER_WITHIN, pause};

/// Sentinels that are not heard from in this time have no vote: one that is frozen must not keep the others waiting. Where
/// none was heard for long, they get [more](pause::patience).
const SENTINEL_WITHIN: Duration = Duration::from_millis(200);

const PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;

/// Where to find the server that takes writes.
#[derive(Debug)]
pub struct Target {
    servers: Servers,
    is_tls: bool,
    credentials: Credentials,
    pub database: u16,
}

#[derive(Debug)]
enum Servers {
    One((String, u16)),
    Sentinels { addresses: Vec<(String, u16)>, master: String, credentials: Credentials },
}

impl Target {
    /// `[rediss:]//[user[:password]@]host[:port][/database]`
    pub fn single(rest: &str, is_tls: bool) -> Result<Self, UrlError> {
        let address = Address::parse(rest, PORT)?;
        let database = database(&address.path)?;
        if !address.options.is_empty() {
            return Err(UrlError::Option { position: 1, known: "(none)" });
        }
        let servers = Servers::One(address.only_host()?.clone());
        Ok(Self { servers, is_tls, credentials: address.credentials, database })
    }

    /// `//[user[:password]@]host[:port][,...]/master[/database][?sentinel_user=...&sentinel_password=...]`; user and
    /// password before the hosts are those of the Redis servers.
    pub fn sentinel(rest: &str, is_tls: bool) -> Result<Self, UrlError> {
        let address = Address::parse(rest, SENTINEL_PORT)?;
        let (master, number) = address.path.split_once('/').unwrap_or((&address.path, ""));
        if master.is_empty() {
            return Err(UrlError::Path {
                expected: "`/name-of-the-master` or `/name-of-the-master/database`",
            });
        }
        let mut credentials = Credentials::default();
        for (index, (name, value)) in address.options.iter().enumerate() {
            match name.as_str() {
                "sentinel_user" => credentials.user = Some(value.clone()),
                "sentinel_password" => credentials.password = Some(value.clone()),
                _ => {
                    let known = "sentinel_user, sentinel_password";
                    return Err(UrlError::Option { position: index + 1, known });
                }
            }
        }
        let (master, database) = (master.to_owned(), database(number)?);
        let servers = Servers::Sentinels { addresses: address.hosts, master, credentials };
        Ok(Self { servers, is_tls, credentials: address.credentials, database })
    }

    /// Whether there are replicas to wait for.
    pub fn has_replicas(&self) -> bool {
        matches!(self.servers, Servers::Sentinels { .. })
    }

    /// Addresses where the server that takes writes may be, the likeliest first; none was found for the time of `outage`.
    pub async fn candidates(&self, outage: Duration) -> RedisResult<Vec<(String, u16)>> {
        let (addresses, master, credentials) = match &self.servers {
            Servers::One(address) => return Ok(vec![address.clone()]),
            Servers::Sentinels { addresses, master, credentials } => (addresses, master, credentials),
        };
        let mut candidates = self.votes((addresses, master, credentials), outage).await?;
        candidates.sort_by_key(|(_, votes)| std::cmp::Reverse(*votes));
        Ok(candidates.into_iter().map(|(address, _)| address).collect())
    }

    /// Whether most Sentinels name another server than `address`, which was found after `outage`. Sentinels that are away do
    /// not.
    pub async fn is_elsewhere(&self, address: &(String, u16), outage: Duration) -> bool {
        let Servers::Sentinels { addresses, master, credentials } = &self.servers else { return false };
        let votes = self.votes((addresses, master, credentials), outage).await.unwrap_or_default();
        votes.iter().any(|(named, votes)| named != address && votes * 2 > addresses.len())
    }

    /// What the Sentinels that answer name as master, and how many each.
    async fn votes(
        &self,
        (sentinels, master, credentials): (&[(String, u16)], &str, &Credentials),
        outage: Duration,
    ) -> RedisResult<Vec<((String, u16), usize)>> {
        let within = pause::patience(SENTINEL_WITHIN, outage);
        let asked = sentinels.iter().map(|address| async move {
            let client = client(address.clone(), self.is_tls, credentials, 0)?;
            let asking = master_of(&client, master, within);
            tokio::time::timeout(within, asking).await.unwrap_or_else(|_| Err(timed_out()))
        });
        let mut votes: BTreeMap<(String, u16), usize> = BTreeMap::new();
        let mut error = None;
        for answer in join_all(asked).await {
            match answer {
                Ok(address) => *votes.entry(address).or_default() += 1,
                Err(reason) => error = Some(reason),
            }
        }
        match error {
            Some(error) if votes.is_empty() => Err(error),
            Some(_) | None => Ok(votes.into_iter().collect()),
        }
    }

    /// A client of the server at `address`.
    pub fn client(&self, address: (String, u16)) -> RedisResult<Client> {
        client(address, self.is_tls, &self.credentials, self.database)
    }
}

fn database(text: &str) -> Result<u16, UrlError> {
    let expected = "empty or the number of a database";
    if text.is_empty() { Ok(0) } else { text.parse().map_err(|_| UrlError::Path { expected }) }
}

fn client(
    (host, port): (String, u16),
    is_tls: bool,
    credentials: &Credentials,
    database: u16,
) -> RedisResult<Client> {
    let address = if is_tls {
        ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
    } else {
        ConnectionAddr::Tcp(host, port)
    };
    let mut settings = RedisConnectionInfo::default().set_db(database.into());
    if let Some(user) = &credentials.user {
        settings = settings.set_username(user);
    }
    if let Some(password) = &credentials.password {
        settings = settings.set_password(password);
    }
    Client::open(address.into_connection_info()?.set_redis_settings(settings))
}

async fn master_of(client: &Client, master: &str, within: Duration) -> RedisResult<(String, u16)> {
    let mut connection = connect(client, within).await?;
    let mut ask = redis::cmd("SENTINEL");
    let answer: Option<(String, u16)> =
        ask.arg("get-master-addr-by-name").arg(master).query_async(&mut connection).await?;
    answer.ok_or_else(|| {
        (ErrorKind::MasterNameNotFoundBySentinel, "the sentinel does not know the master").into()
    })
}

/// A connection that is there `within` this time, or fails, and then answers within [`ANSWER_WITHIN`] or fails.
pub async fn connect(client: &Client, within: Duration) -> RedisResult<MultiplexedConnection> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(within))
        .set_response_timeout(Some(ANSWER_WITHIN));
    client.get_multiplexed_async_connection_with_config(&config).await
}

/// Fails unless the answer to `ROLE` is that of a master.
pub fn is_master(role: &Value) -> RedisResult<()> {
    let Value::Array(parts) = role else {
        return Err((ErrorKind::UnexpectedReturnType, "ROLE is not an array").into());
    };
    match parts.first() {
        Some(Value::BulkString(name)) if name == b"master" => Ok(()),
        _ => Err((ErrorKind::Client, "the server is a replica").into()),
    }
}

/// The error of an answer that did not come.
pub fn timed_out() -> RedisError {
    std::io::Error::from(std::io::ErrorKind::TimedOut).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_where_redis_is() {
        let one = Target::single("h/3", false).expect("good");
        assert_eq!(one.database, 3);
        assert!(matches!(one.servers, Servers::One((host, 6379)) if host == "h"));
        let rest = ":p@a,b:5/main/2?sentinel_user=s&sentinel_password=t";
        let several = Target::sentinel(rest, true).expect("good");
        let Servers::Sentinels { addresses, master, credentials } = &several.servers else {
            panic!("{several:?}")
        };
        assert_eq!(addresses, &[("a".into(), 26379), ("b".into(), 5)]);
        assert_eq!((master.as_str(), several.database), ("main", 2));
        assert_eq!(credentials.password.as_deref(), Some("t"));
        assert_eq!(several.credentials.password.as_deref(), Some("p"));
    }

    #[test]
    fn a_url_that_says_less_is_refused() {
        assert_eq!(Target::single("a,b", false).map(|_| ()), Err(UrlError::Hosts));
        assert!(matches!(Target::single("a/x", false), Err(UrlError::Path { .. })));
        assert!(matches!(Target::single("a?x=1", false), Err(UrlError::Option { position: 1, .. })));
        assert!(matches!(Target::sentinel("a", false), Err(UrlError::Path { .. })));
        assert!(matches!(
            Target::sentinel("a/main?sentinel_user=x&y", false),
            Err(UrlError::Option { position: 2, .. })
        ));
    }
}
