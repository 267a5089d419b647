//! A question is asked, and its answer waited for: nothing is spent meanwhile, and what runs in the box goes on.

use std::time::Duration;

use jiff::Timestamp;

use super::answers;
use super::around::{Asked, Happening, out_of_time};
use super::driver::Driver;
use super::person::Heard;
use super::trouble::Trouble;
use crate::domain::{
    AnsweredAt, Event, ExitReason, NoticeKind, OnSilence, Outcome, Question, QuestionEnd, QuestionId, QuestionRecord,
    QuestionState, Status, ToolCall, duration_words,
};
use crate::journal::{LeftAnswer, Mail};
use crate::tools::AskArgs;

impl Driver {
    /// Writes a question down: from now on it can be answered.
    pub(super) fn put(&mut self, question: Question) -> Result<(), Trouble> {
        self.note(Event::QuestionAsked { question })?;
        self.commit()
    }

    /// Puts the model's question, unless an earlier driver has done that. One that waits is the call's beginning; its end
    /// is what comes of it.
    pub(super) fn run_ask(&mut self, call: &ToolCall, args: &AskArgs) -> Result<(), Trouble> {
        let ends = |outcome: Outcome| Event::ToolEnded { call_id: call.id.clone(), outcome };
        if let Some(record) = self.state.asked_by(call) {
            let outcome = answers::put_aside(&record.question);
            return self.note(ends(outcome)).map(drop);
        }
        let silence = self.state.spec().rules.silence;
        let question = match args.question(self.state.questions().next_id(), &call.id, silence) {
            Ok(question) => question,
            Err(why) => {
                let text = format!("malformed call of `ask_human`: {why}");
                return self.note(ends(Outcome::words(Status::Malformed, text))).map(drop);
            }
        };
        if let Some(outcome) = self.state.not_put(&question) {
            return self.note(ends(outcome)).map(drop);
        }
        let aside = (!args.waits()).then(|| answers::put_aside(&question));
        self.put(question)?;
        aside.map_or(Ok(()), |outcome| self.note(ends(outcome)).map(drop))
    }

    /// Waits until an open question is answered or over, or something else comes first.
    pub(super) async fn await_answer(&mut self, id: QuestionId) -> Result<(), Trouble> {
        let Some(record) = self.state.questions().get(id) else { return Ok(()) };
        let question = record.question.clone();
        let until = self.until(record);
        self.commit()?;
        match self.around.next_answer(&question, until).await {
            Asked::Heard(Heard::Reply(reply)) => {
                let event = Event::QuestionAnswered { question: id, reply, at: AnsweredAt::Terminal, mail: None };
                self.note(event).map(drop)
            }
            Asked::Heard(Heard::Nobody) => self.unanswered(&question, "nobody is there to be asked".to_owned()),
            Asked::Late if question.silence.then == OnSilence::Wait => Ok(()),
            Asked::Late => {
                let within = question.silence.within_s.unwrap_or(0).saturating_mul(1000);
                self.unanswered(&question, format!("nobody has answered within {}", duration_words(within)))
            }
            Asked::Heard(Heard::Word(word)) | Asked::Happened(Happening::Word(word)) => self.take(word),
            Asked::Happened(Happening::Mail(mail)) => {
                self.mail.push_back(mail);
                Ok(())
            }
            Asked::Happened(Happening::News(event)) => self.note(*event).map(drop),
            Asked::Happened(Happening::TimeOver) => {
                self.around.put_away(id);
                self.take(out_of_time(self.state.spec()))
            }
            Asked::Happened(Happening::Order) => Ok(()),
        }
    }

    /// Until when somebody is waited for. Where that has passed and the run waits on, nothing limits it any more.
    fn until(&self, record: &QuestionRecord) -> Option<Timestamp> {
        let silence = record.question.silence;
        let since = self.state.taken_up().map_or(record.asked, |taken_up| taken_up.max(record.asked));
        let until = since.checked_add(Duration::from_secs(silence.within_s?)).unwrap_or(Timestamp::MAX);
        Some(until).filter(|until| silence.then != OnSilence::Wait || *until > self.clock.now())
    }

    /// Nobody has answered: the question is over, or the run stops with the question open.
    fn unanswered(&mut self, question: &Question, why: String) -> Result<(), Trouble> {
        self.around.put_away(question.id);
        if question.silence.then == OnSilence::Fail {
            let event = Event::QuestionClosed { question: question.id, end: QuestionEnd::Timeout, why };
            return self.note(event).map(drop);
        }
        let run = &self.state.spec().run;
        let trouble = Trouble {
            reason: ExitReason::NeedsHuman,
            what: format!("question {} waits for an answer: {}", question.id, question.text),
            because: vec![why],
            hints: vec![
                format!("see what is asked: `agent questions {run}`"),
                format!("answer it: `agent answer {run} {} {}`", question.id, question.first_choice()),
                format!("then go on: `agent resume {run}`"),
            ],
        };
        self.note(Event::StopAsked { reason: trouble.reason, why: trouble.line() })?;
        self.trouble = Some(trouble);
        Ok(())
    }

    /// Notes the answers that have come from other terminals.
    pub(super) fn take_answers(&mut self) -> Result<(), Trouble> {
        self.has_mail();
        let (answers, others): (Vec<Mail>, Vec<Mail>) =
            std::mem::take(&mut self.mail).into_iter().partition(|mail| mail.answer.is_some());
        self.mail = others.into();
        answers.iter().try_for_each(|mail| self.take_answer_of(mail))
    }

    /// Notes the answer that a message brings, or why it is none; only then is the message removed.
    pub(super) fn take_answer_of(&mut self, mail: &Mail) -> Result<(), Trouble> {
        let Some(LeftAnswer { question: id, reply }) = &mail.answer else { return Ok(()) };
        let event = match self.state.questions().get(*id) {
            Some(record) if record.state == QuestionState::Open && record.question.admits(reply) => {
                Event::QuestionAnswered {
                    question: *id,
                    reply: reply.clone(),
                    at: AnsweredAt::Inbox,
                    mail: Some(mail.name.clone()),
                }
            }
            record => {
                let why = not_an_answer(record);
                let text = format!("an answer to {id} (`{}`) was left and not taken: {why}", reply.words());
                Event::Noticed { kind: NoticeKind::AnswerUnused, text }
            }
        };
        self.around.put_away(*id);
        self.note(event)?;
        self.commit()?;
        self.around.recorded(mail);
        Ok(())
    }

    /// Where the run waits for a person to say what is to be done, and they have said so in a message: it is no question
    /// any more.
    pub(super) fn give_way(&mut self) -> Result<(), Trouble> {
        let asked = self.state.awaited().filter(|record| record.question.subject.yields_to_words());
        let Some(question) = asked.map(|record| record.question.id) else { return Ok(()) };
        if self.mail.iter().all(|mail| mail.answer.is_some()) {
            return Ok(());
        }
        self.around.put_away(question);
        let why = "a person has said what to do".to_owned();
        self.note(Event::QuestionClosed { question, end: QuestionEnd::Withdrawn, why }).map(drop)
    }

    /// The run is over for good: nobody is asked any more.
    pub(super) fn withdraw_questions(&mut self) -> Result<(), Trouble> {
        let open: Vec<QuestionId> = self.state.questions().open().map(|record| record.question.id).collect();
        open.into_iter().try_for_each(|question| {
            let why = "the run has ended".to_owned();
            self.note(Event::QuestionClosed { question, end: QuestionEnd::Withdrawn, why }).map(drop)
        })
    }
}

fn not_an_answer(record: Option<&QuestionRecord>) -> String {
    match record.map(|record| (&record.state, &record.question)) {
        None => "there is no such question".to_owned(),
        Some((QuestionState::Open, question)) => format!("it is none of {}", question.names()),
        Some((QuestionState::Answered { reply, .. }, _)) => format!("it was answered before, with `{}`", reply.words()),
        Some((QuestionState::Over { .. }, _)) => "the question is over".to_owned(),
    }
}
