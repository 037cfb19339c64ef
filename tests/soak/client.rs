//! Clients, good and bad.

use std::io::{BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use serde_json::json;

use super::cases::{Case, Random};
use crate::serve_support::{Response, Server, read, request};

/// A client with a connection that it may use again.
pub struct Client<'a> {
    server: &'a Server,
    connection: Option<BufReader<TcpStream>>,
}

/// What a client may do to a server.
#[derive(Clone, Copy, Debug)]
pub enum Misbehaviour {
    /// It goes away after a while: in the queue, while its prompt is read, or in the middle of its answer.
    Vanish,
    /// It says that it will send no more, and waits for the answer.
    HalfClose,
    /// It goes away in the middle of its request.
    HalfBody,
    /// It sends two requests at once, and goes away when the first answer has come.
    VanishAfterFirst,
    /// It does not speak HTTP.
    Nonsense,
    /// It connects, and that is all.
    Silence,
}

impl Misbehaviour {
    pub fn any(random: &mut Random) -> Misbehaviour {
        use Misbehaviour::*;
        *random.of(&[
            Vanish,
            Vanish,
            Vanish,
            Vanish,
            HalfClose,
            HalfBody,
            VanishAfterFirst,
            Nonsense,
            Silence,
        ])
    }
}

impl Client<'_> {
    pub fn new(server: &Server) -> Client<'_> {
        Client { server, connection: None }
    }

    /// Sends a request and reads its answer: over a new connection, over the last one, or twice over one without waiting in between.
    pub fn ask(&mut self, case: &Case, random: &mut Random) -> Response {
        let text = request(&self.server.address, "POST", case.path, &[], &case.body);
        let keeps = random.below(3) > 0;
        let connection = self.connection.take().filter(|_| keeps);
        let mut connection = connection.unwrap_or_else(|| BufReader::new(self.server.connect()));
        let is_twice = random.below(8) == 0;
        let sent = if is_twice { text.repeat(2) } else { text };
        connection.get_mut().write_all(sent.as_bytes()).expect("the request is sent");
        let response = read(&mut connection);
        if is_twice {
            let again = read(&mut connection);
            assert_eq!(
                super::normal::normal(&again),
                super::normal::normal(&response),
                "sent twice: {case:?}"
            );
        }
        // A body that is no JSON is read to its end, so that what follows is the next request.
        self.connection = keeps.then_some(connection);
        response
    }

    pub fn misbehave(&mut self, how: Misbehaviour, case: &Case, random: &mut Random) {
        let text = request(&self.server.address, "POST", case.path, &[], &case.body);
        let mut stream = self.server.connect();
        let mut pause = || std::thread::sleep(Duration::from_millis(random.below(60) as u64));
        // The server may have closed the connection already.
        let mut send = |text: &str| {
            let _ = stream.write_all(text.as_bytes());
        };
        match how {
            Misbehaviour::Vanish => {
                send(&text);
                pause();
            }
            Misbehaviour::HalfClose => {
                send(&text);
                let _ = stream.shutdown(Shutdown::Write);
                let _ = stream.read_to_end(&mut Vec::new());
            }
            Misbehaviour::HalfBody => {
                send(&text[..text.len() - case.body.len() / 2]);
                pause();
            }
            Misbehaviour::VanishAfterFirst => {
                send(&text.repeat(2));
                let _ = stream.read(&mut [0; 100]);
            }
            Misbehaviour::Nonsense => {
                send("\u{1}\u{2} hello?\r\n\r\n");
                let _ = stream.read_to_end(&mut Vec::new());
            }
            Misbehaviour::Silence => pause(),
        }
    }
}

/// Asks for more than buffers hold, and reads a byte now and then.
pub fn read_slowly(server: &Server, is_over: &AtomicBool) {
    let body = json!({"prompt": "Once", "n": 4, "n_predict": 400, "n_probs": 50, "ignore_eos": true, "stream": true});
    let mut stream = server.begin("/completion", &body);
    while !is_over.load(SeqCst) {
        if stream.read(&mut [0]).is_ok_and(|n| n == 0) {
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}
