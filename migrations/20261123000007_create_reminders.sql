-- Every mail that is due or was sent: one row per session, person, mail and step. The unique key is
-- what makes "one mail each" true; the row's id is in the mail's Message-ID, so that a repeat after
-- a crash between the server's "250" and our commit can be recognised by its reader.
create table reminders (
    id          uuid primary key,
    tenant_id   uuid not null references tenants (id),
    session_id  uuid not null references sessions (id) on delete cascade,
    person_id   text not null,
    mail        text not null check (mail in ('invitation', 'reminder', 'update', 'cancellation')),
    -- Minutes before the start for a reminder, else 0.
    step        integer not null default 0,
    -- The session's sequence that the mail tells of (reminders and updates); 0 else.
    sequence    integer not null default 0,
    due_at      timestamptz not null,
    -- pending → queued (a job exists) → sending (claimed) → sent | dropped (no longer makes sense) | failed
    state       text not null default 'pending'
                check (state in ('pending', 'queued', 'sending', 'sent', 'dropped', 'failed')),
    note        text,
    claimed_at  timestamptz,
    sent_at     timestamptz,
    created_at  timestamptz not null default now(),
    unique (session_id, person_id, mail, step, sequence)
);
create index reminders_due_idx on reminders (due_at) where state = 'pending';
