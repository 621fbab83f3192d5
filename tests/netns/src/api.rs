//! The API socket, spoken to without the command line.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

/// One connection.
#[derive(Debug)]
pub struct Api(BufReader<UnixStream>);

impl Api {
    /// # Errors
    /// As the socket.
    pub fn connect(socket: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        stream.set_write_timeout(Some(Duration::from_secs(20)))?;
        Ok(Self(BufReader::new(stream)))
    }

    /// # Errors
    /// As the socket.
    pub fn send(&mut self, method: &str, parameters: &Value) -> io::Result<()> {
        let mut request = json!({ "method": method });
        if !parameters.is_null()
            && let Some(members) = request.as_object_mut()
        {
            members.insert("parameters".into(), parameters.clone());
        }
        let mut bytes = request.to_string().into_bytes();
        bytes.push(0);
        self.0.get_mut().write_all(&bytes)
    }

    /// The next message.
    ///
    /// # Errors
    /// As the socket; `UnexpectedEof` when the daemon has closed.
    pub fn receive(&mut self) -> io::Result<Value> {
        let mut bytes = Vec::new();
        self.0.read_until(0, &mut bytes)?;
        if bytes.pop() != Some(0) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(serde_json::from_slice(&bytes)?)
    }

    /// Asks and returns the reply.
    ///
    /// # Panics
    /// When the daemon refuses or cannot be reached.
    pub fn call(&mut self, method: &str, parameters: &Value) -> Value {
        self.send(method, parameters).expect("request");
        let mut answer = self.receive().expect("answer");
        answer.get_mut("parameters").map(Value::take).unwrap_or_else(|| panic!("{method}: {answer}"))
    }
}
