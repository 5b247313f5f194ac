//! Functions on the table `reminders`: one row per mail. [`plan`] writes them, [`invite`] when the list of invitees
//! changes; [`deliver`] is their way from due to sent.

mod deliver;
mod invite;
mod plan;

pub use deliver::{DueMail, claim, enqueue_due, find_due_mail, mark_dropped, mark_failed, mark_sent};
pub use invite::follow_list;
pub use plan::{
    People, anybody_told, drop_pending, plan_cancellation, plan_for_session, plan_recording_missing,
    plan_recording_ready, plan_update, replan_steps,
};
