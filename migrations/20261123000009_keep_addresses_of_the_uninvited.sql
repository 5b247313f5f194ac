-- Who is taken off the list of invitees gets a cancellation, though the session goes on. Their row in `invitees` is gone
-- by then, so the mail's row keeps whom it is for; empty for all other mails. A cancellation with an address tells that
-- person alone, one without tells of the whole session.
--
-- Invitations and cancellations carry the session's sequence from now on (it was 0), as reminders and updates do:
-- somebody who was invited, taken off and put on again gets one mail for each.
alter table reminders
    add column name      text,
    add column email     text,
    add column locale    text,
    add column timezone  text;
