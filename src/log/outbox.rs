//! The logger's side of the channel: orders as they come, reports kept until berth has room.
//!
//! What must always hold: the logger never waits for berth. What is kept is bounded by what
//! there is to say: two reports a stream, and one a unit until its trouble is over.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::channel::{Channel, FromLogger, Received, SendError, ToLogger};

/// What to wait for on the channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interest {
    /// Orders.
    Orders,
    /// Orders, and room for reports.
    OrdersAndRoom,
}

/// The channel while berth is there.
#[derive(Debug)]
pub struct Outbox {
    berth: Option<Channel<FromLogger, ToLogger>>,
    reports: VecDeque<FromLogger>,
    interest: Interest,
}

impl Outbox {
    /// The logger's end of the channel.
    pub fn new(socket: OwnedFd) -> Self {
        let (berth, reports) = (Some(Channel::from(socket)), VecDeque::new());
        Self { berth, reports, interest: Interest::Orders }
    }

    /// What to wait on; `None` once berth is gone.
    pub fn socket(&self) -> Option<BorrowedFd<'_>> {
        self.berth.as_ref().map(AsFd::as_fd)
    }

    /// Whether berth has heard everything, or is gone.
    pub fn is_empty(&self) -> bool {
        self.reports.is_empty()
    }

    /// Keeps a report for the next [`Self::flush`].
    pub fn push(&mut self, report: FromLogger) {
        if self.berth.is_some() {
            self.reports.push_back(report);
        }
    }

    /// The next order. An order that is damaged, or whose descriptor was lost, is itself
    /// reported.
    pub fn receive(&mut self) -> Received<ToLogger> {
        let Some(berth) = &self.berth else { return Received::Closed };
        loop {
            match berth.receive() {
                Ok(received) => return received,
                Err(error) if is_about_one_message(&error) => {
                    let unit = "berth".to_owned();
                    let text = format!("an order to the logger was lost: {error}");
                    self.reports.push_back(FromLogger::Trouble { unit, text });
                }
                Err(_) => return Received::Closed,
            }
        }
    }

    /// Sends what berth has room for; what to wait for from now on, if that has changed.
    pub fn flush(&mut self) -> Option<Interest> {
        let berth = self.berth.as_ref()?;
        let mut interest = Interest::Orders;
        while let Some(report) = self.reports.front() {
            match berth.send(report, None) {
                Err(SendError::Full) => {
                    interest = Interest::OrdersAndRoom;
                    break;
                }
                // That berth is gone is told by the channel's end. And one that is too
                // long or refused cannot be sent later either.
                Ok(()) | Err(SendError::Gone | SendError::TooLong | SendError::Io(_)) => {
                    self.reports.pop_front();
                }
            }
        }
        let before = std::mem::replace(&mut self.interest, interest);
        (before != interest).then_some(interest)
    }

    /// berth is gone: nobody is left to hear anything.
    pub fn close(&mut self) {
        self.berth = None;
        self.reports.clear();
    }
}

fn is_about_one_message(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::Other)
}
