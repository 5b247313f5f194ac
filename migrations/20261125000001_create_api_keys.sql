-- Keys with which machines of a tenant call the API: `lsk_<id>_<secret>`. The secret is shown once and kept by nobody here.
create table api_keys (
    -- Part of the key, so that one look-up finds its row; no secret.
    id           uuid primary key,
    tenant_id    uuid not null references tenants (id),
    -- For people: what the key is for.
    name         text not null check (length(name) between 1 and 200),
    -- SHA-256 of the secret. Slow hashes are for passwords, which can be guessed; 256 random bits cannot.
    hash         bytea not null check (octet_length(hash) = 32),
    -- Never operator: that role is not a tenant's to give.
    roles        text[] not null check (roles <@ '{admin,service}' and cardinality(roles) between 1 and 2),
    -- The caller's id: a person's, or `api-key:<id>`.
    created_by   text not null,
    created_at   timestamptz not null default now(),
    -- null: until it is revoked.
    expires_at   timestamptz,
    revoked_at   timestamptz,
    revoked_by   text,
    -- Within a minute; null: never.
    last_used_at timestamptz,
    check ((revoked_at is null) = (revoked_by is null))
);
-- A tenant's list, newest first.
create index api_keys_tenant_idx on api_keys (tenant_id, id);
