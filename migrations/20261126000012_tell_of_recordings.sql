-- Two more mails: the recording is there; it never came, or could not be fetched (to the host).
alter table reminders drop constraint reminders_mail_check;
alter table reminders add constraint reminders_mail_check
    check (mail in ('invitation', 'reminder', 'update', 'cancellation', 'recording-ready', 'recording-missing')) not valid;
