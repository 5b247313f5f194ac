create table recordings (
    id                uuid primary key,
    tenant_id         uuid not null references tenants (id),
    session_id        uuid not null references sessions (id) on delete cascade,
    -- The provider's id of the recording; a callback told twice is one recording.
    external_id       text not null,
    state             text not null default 'expected'
                      check (state in ('expected', 'available', 'downloading', 'stored', 'published',
                                       'missing', 'failed', 'deleted')),
    -- Where the provider serves it. May carry its own authorisation: never shown, never logged.
    source_url        text,
    file_name         text not null default 'recording.mp4',
    content_type      text not null default 'video/mp4',
    -- What the provider announced, if it did.
    announced_bytes   bigint,
    announced_sha256  text,
    duration_seconds  bigint,
    recorded_from     timestamptz,
    recorded_to       timestamptz,
    -- Import: the multipart upload in progress and its parts [{number, etag, bytes}], so that a
    -- new worker goes on where the old one died.
    upload_id         text,
    parts             jsonb not null default '[]',
    source_etag       text,
    bytes_done        bigint not null default 0,
    -- Result.
    object_key        text,
    size_bytes        bigint,
    sha256            text,
    error             text,
    -- After this the recording is `missing`.
    deadline_at       timestamptz,
    stored_at         timestamptz,
    created_at        timestamptz not null default now(),
    updated_at        timestamptz not null default now(),
    unique (session_id, external_id)
);
create index recordings_open_idx on recordings (deadline_at) where state in ('expected', 'available', 'downloading');
