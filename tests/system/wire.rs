//! A client that may say anything: bytes on the control socket.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::{Value, json};

use crate::rig::Rig;

/// Longer than the time after which a client that owes something is cut off (30 s).
const PATIENCE: Duration = Duration::from_secs(60);

/// A connection.
pub struct Wire {
    stream: UnixStream,
    read: Vec<u8>,
}

impl Wire {
    pub fn new(rig: &Rig) -> Self {
        let stream = UnixStream::connect(rig.path("run/control.sock")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self { stream, read: Vec::new() }
    }

    /// Sends bytes; false if nobody takes them any more.
    pub fn bytes(&mut self, bytes: &[u8]) -> bool {
        match self.stream.write_all(bytes) {
            Ok(()) => true,
            Err(error)
                if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) =>
            {
                false
            }
            Err(error) => panic!("cannot send: {error}"),
        }
    }

    /// Sends a call of `org.berth.Control`.
    pub fn call(&mut self, method: &str, parameters: &Value, flag: Option<&str>) {
        let mut call = json!({ "method": format!("org.berth.Control.{method}"),
                               "parameters": parameters });
        if let Some(flag) = flag {
            call[flag] = json!(true);
        }
        let mut message = serde_json::to_vec(&call).unwrap();
        message.push(0);
        assert!(self.bytes(&message), "the connection is gone");
    }

    /// Nothing more will be sent.
    pub fn half_close(&self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// The next reply; none when the connection is over.
    pub fn reply(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.read.iter().position(|byte| *byte == 0) {
                let message: Vec<u8> = self.read.drain(..=end).collect();
                return Some(serde_json::from_slice(&message[..end]).unwrap());
            }
            let mut buffer = [0; 16 * 1024];
            match self.stream.read(&mut buffer) {
                Ok(0) => return None,
                Ok(count) => self.read.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => panic!("no answer: {error}"),
            }
        }
    }

    /// One call and its one reply, which is no error.
    pub fn ask(&mut self, method: &str, parameters: &Value) -> Value {
        self.call(method, parameters, None);
        let reply = self.reply().expect("the connection is over");
        assert!(reply.get("error").is_none(), "{method}: {reply}");
        reply["parameters"].clone()
    }

    /// One call that must fail: the last part of the error's name.
    pub fn fails(&mut self, method: &str, parameters: &Value, flag: Option<&str>) -> String {
        self.call(method, parameters, flag);
        self.error()
    }

    /// The next reply, which must be an error: the last part of its name.
    pub fn error(&mut self) -> String {
        let reply = self.reply().expect("the connection is over");
        let name = reply["error"].as_str().unwrap_or_else(|| panic!("no error: {reply}"));
        name.rsplit('.').next().unwrap().to_owned()
    }

    /// All replies of the last call, to the one after which none follows.
    pub fn replies(&mut self) -> Vec<Value> {
        let mut all = Vec::new();
        loop {
            let reply = self.reply().expect("the connection is over");
            assert!(reply.get("error").is_none(), "{reply}");
            let more = reply["continues"] == true;
            all.push(reply["parameters"].clone());
            if !more {
                return all;
            }
        }
    }
}
