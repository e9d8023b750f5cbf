//! What a remote makes of HTTP answers that real servers seldom give: a scripted server on this machine.
#![expect(clippy::unwrap_used, reason = "a test says what went wrong by ending there")]

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use ouro_remote::{Credentials, Limits, Remote, RemoteError, RemoteUri, Store};

/// Answers each connection with the next line of a script, the last one again and again, and keeps what was asked.
struct Script {
    port: u16,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Script {
    #[expect(clippy::disallowed_methods, reason = "the server has to be a thread; it ends with the test's process")]
    fn new(answers: &'static [&'static str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&asked);
        std::thread::spawn(move || {
            for (number, connection) in listener.incoming().enumerate() {
                let answer = answers[number.min(answers.len() - 1)];
                answer_one(&mut connection.unwrap(), answer, &heard);
            }
        });
        Self { port, asked }
    }

    fn s3(&self) -> Remote {
        let credentials = Credentials::parse("AWS_ACCESS_KEY_ID=key-id\nAWS_SECRET_ACCESS_KEY=the-secret").unwrap();
        self.open(&format!("s3://bucket?endpoint=http://127.0.0.1:{}", self.port), &credentials)
    }

    fn webdav(&self) -> Remote {
        let credentials = Credentials::parse("OUROBOX_WEBDAV_USER=me\nOUROBOX_WEBDAV_PASSWORD=the-secret").unwrap();
        self.open(&format!("webdav://127.0.0.1:{}/dav", self.port), &credentials)
    }

    fn open(&self, uri: &str, credentials: &Credentials) -> Remote {
        let pause = Duration::from_millis(1);
        let limits =
            Limits { retry_pause_min: pause, retry_pause_max: pause, object_bytes_max: 1000, ..Limits::default() };
        Remote::open(&uri.parse::<RemoteUri>().unwrap(), credentials, &limits).unwrap()
    }

    /// Method and path of each request so far.
    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn answer_one(connection: &mut TcpStream, answer: &str, heard: &Mutex<Vec<String>>) {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let count = connection.read(&mut buffer).unwrap();
        request.extend_from_slice(&buffer[..count]);
        let text = String::from_utf8_lossy(&request).to_lowercase();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length =
            head.lines().find_map(|line| line.strip_prefix("content-length: ")).map_or(0, |l| l.parse().unwrap());
        if body.len() >= length {
            break;
        }
    }
    let line = String::from_utf8_lossy(&request).lines().next().unwrap_or_default().to_owned();
    heard.lock().unwrap().push(line.trim_end_matches(" HTTP/1.1").to_owned());
    let (head, body) = answer.split_once('|').unwrap_or((answer, ""));
    let head = head.replace(';', "\r\n");
    let length =
        if head.contains("ontent-length") { String::new() } else { format!("content-length: {}\r\n", body.len()) };
    write!(connection, "HTTP/1.1 {head}\r\n{length}connection: close\r\n\r\n{body}").unwrap();
}

const DATA: Bytes = Bytes::from_static(b"data");

#[tokio::test]
async fn a_put_that_is_redirected_to_a_login_page_is_no_success() {
    let script = Script::new(&["302 Found;location: /login", "200 OK|<html>welcome"]);
    let answer = script.s3().publish("log/d/1", DATA).await;
    assert!(answer.is_err(), "{:?}", script.asked());
    let script = Script::new(&["201 Created", "302 Found;location: /login", "200 OK|<html>welcome"]);
    assert!(script.webdav().publish("x", DATA).await.is_err(), "{:?}", script.asked());
}

#[tokio::test]
async fn a_read_follows_a_redirect() {
    let script = Script::new(&["302 Found;location: /elsewhere", "200 OK|data"]);
    assert_eq!(script.webdav().get("x").await.unwrap().unwrap(), DATA);
    assert_eq!(script.asked(), ["GET /dav/x", "GET /elsewhere"]);
}

#[tokio::test]
async fn a_server_error_is_tried_again_and_counted() {
    let script = Script::new(&["503 Slow", "500 Oops", "200 OK"]);
    let remote = script.s3();
    remote.publish("log/d/1", DATA).await.unwrap();
    let usage = remote.usage();
    assert_eq!((usage.puts, usage.retries, usage.out_by_prefix.log), (3, 2, 12));
    let script = Script::new(&["503 Slow"]);
    let remote = script.s3();
    let error = remote.publish("log/d/1", DATA).await.unwrap_err();
    assert!(error.is_retryable(), "{error:?}");
    assert_eq!(remote.usage().puts, 4, "the tries are limited");
}

#[tokio::test]
async fn statuses_say_what_to_do() {
    let script = Script::new(&["429 Slow"]);
    assert!(matches!(script.s3().get("a").await, Err(RemoteError::Throttled { .. })));
    let script = Script::new(&["507 Full"]);
    assert!(matches!(script.webdav().publish("a", DATA).await, Err(RemoteError::Full { .. })));
    let script = Script::new(&["401 Who"]);
    assert!(matches!(script.webdav().get("a").await, Err(RemoteError::Denied { .. })));
    let script = Script::new(&["405 No"]);
    assert!(matches!(script.webdav().publish("a", DATA).await, Err(RemoteError::ReadOnly { .. })));
    let script =
        Script::new(&["403 No|<Error><Code>AccessDenied</Code><Message>not key-id, the-secret</Message></Error>"]);
    let error = script.s3().get("a").await.unwrap_err();
    assert!(matches!(error, RemoteError::Denied { .. }), "{error:?}");
    let shown = format!("{error} {error:?}");
    assert!(shown.contains("AccessDenied") && !shown.contains("the-secret") && !shown.contains("key-id"), "{shown}");
}

#[tokio::test]
async fn a_server_that_ignores_ranges_is_cut_to_size() {
    let script = Script::new(&["200 OK|0123456789"]);
    assert_eq!(script.s3().get_range("a", 3, 4).await.unwrap().unwrap(), Bytes::from_static(b"3456"));
    let script = Script::new(&["200 OK|0123456789"]);
    assert!(matches!(script.s3().get_range("a", 8, 4).await, Err(RemoteError::Torn { .. })));
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_not_taken_for_the_object() {
    let script = Script::new(&["200 OK;content-length: 10|half"]);
    let answer = script.s3().get("a").await;
    assert!(matches!(&answer, Err(error) if error.is_retryable()), "{answer:?}");
}

#[tokio::test]
async fn an_endless_answer_is_cut_off() {
    let script = Script::new(&["200 OK;content-length: 2000|"]);
    let answer = script.s3().get("a").await;
    assert!(matches!(&answer, Err(error) if !error.is_retryable()), "{answer:?}");
}

#[tokio::test]
async fn a_webdav_server_without_move_gets_the_object_by_put() {
    let script = Script::new(&["201 Created", "405 No", "204 Gone", "404 None", "201 Created"]);
    script.webdav().publish("x", DATA).await.unwrap();
    let asked = script.asked();
    let verbs: Vec<&str> = asked.iter().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(verbs, ["PUT", "MOVE", "DELETE", "GET", "PUT"]);
    assert_eq!(asked[4], "PUT /dav/x");
}

#[tokio::test]
async fn a_bucket_that_proved_it_says_when_a_name_is_taken() {
    let script = Script::new(&["412 Taken", "200 OK|data"]);
    let remote = script.s3();
    remote.set_write_once(true);
    remote.publish("log/d/1", DATA).await.unwrap();
    assert_eq!(script.asked().len(), 2);
    let script = Script::new(&["412 Taken", "200 OK|other"]);
    let remote = script.s3();
    remote.set_write_once(true);
    assert!(matches!(remote.publish("log/d/1", DATA).await, Err(RemoteError::Taken { .. })));
    // A write that was cut off is completed.
    let script = Script::new(&["412 Taken", "200 OK|da", "200 OK"]);
    let remote = script.s3();
    remote.set_write_once(true);
    remote.publish("log/d/1", DATA).await.unwrap();
    assert_eq!(script.asked().len(), 3);
}
