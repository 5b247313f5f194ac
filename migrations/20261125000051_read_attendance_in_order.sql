-- The report of a large session is read page by page, as it is sent.
create index attendance_report_idx on attendance (session_id, (not invited), name, person_id);
-- What one person attended.
create index attendance_person_idx on attendance (tenant_id, person_id);
