//! A question is asked, and its answer waited for: nothing is spent meanwhile, and what runs in the box goes on.

use super::around::{Happening, out_of_time};
use super::driver::Driver;
use super::person::Heard;
use super::trouble::Trouble;
use crate::domain::{AnsweredAt, Event, ExitReason, OnSilence, Question, QuestionEnd, QuestionId};

impl Driver {
    /// Writes a question down: from now on it can be answered.
    pub(super) fn put(&mut self, question: Question) -> Result<(), Trouble> {
        self.note(Event::QuestionAsked { question })?;
        self.commit()
    }

    /// Waits until an open question is answered or over, or something else comes first.
    pub(super) async fn await_answer(&mut self, id: QuestionId) -> Result<(), Trouble> {
        let Some(record) = self.state.questions().get(id) else { return Ok(()) };
        let question = record.question.clone();
        match self.around.next_answer(&question).await {
            Ok(Heard::Reply(reply)) => {
                let event = Event::QuestionAnswered { question: id, reply, at: AnsweredAt::Terminal, mail: None };
                self.note(event).map(drop)
            }
            Ok(Heard::Nobody) if question.silence.then == OnSilence::Fail => {
                let why = "nobody is there to be asked".to_owned();
                self.note(Event::QuestionClosed { question: id, end: QuestionEnd::Timeout, why }).map(drop)
            }
            Ok(Heard::Nobody) => {
                let run = &self.state.spec().run;
                let why =
                    format!("question {id} waits for an answer: `agent answer {id} …`, then `agent resume {run}`");
                self.note(Event::StopAsked { reason: ExitReason::NeedsHuman, why }).map(drop)
            }
            Ok(Heard::Word(word)) | Err(Happening::Word(word)) => self.take(word),
            Err(Happening::Mail(mail)) => {
                self.mail.push_back(mail);
                Ok(())
            }
            Err(Happening::News(event)) => self.note(*event).map(drop),
            Err(Happening::TimeOver) => self.take(out_of_time(self.state.spec())),
            Err(Happening::Order) => Ok(()),
        }
    }
}
