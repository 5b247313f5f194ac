-- What a tenant's administrator configures: a server or an account at a meeting provider.
create table provider_configs (
    id          uuid primary key,
    tenant_id   uuid not null references tenants (id),
    -- How people call it.
    name        text not null check (name <> ''),
    provider    text not null check (provider in ('jitsi', 'jaas', 'bbb', 'zoom')),
    -- What is no secret; which fields there are, is told by shared::providers::settings.
    settings    jsonb not null,
    -- Taken for sessions that name none. A disabled configuration takes no new sessions, so it is no default.
    is_default  boolean not null default false,
    enabled     boolean not null default true,
    -- Raised by every write of people; the ETag. Sealing the secrets anew does not raise it.
    version     bigint not null default 1,
    created_at  timestamptz not null default now(),
    updated_at  timestamptz not null default now(),
    constraint provider_configs_name_key unique (tenant_id, name),
    constraint provider_configs_default_is_enabled check (enabled or not is_default)
);
create unique index provider_configs_default_key on provider_configs (tenant_id) where is_default;
create index provider_configs_tenant_idx on provider_configs (tenant_id, id);

-- Secrets of configurations, sealed (shared::secrets): the database, a backup or a replica alone gives none away.
-- Tenant, configuration and field are authenticated with the ciphertext: moved to another row it does not open.
create table provider_secrets (
    config_id   uuid not null references provider_configs (id) on delete cascade,
    tenant_id   uuid not null references tenants (id),
    field       text not null,
    -- Which key of SECRETS_KEYS opens it.
    key_id      text not null,
    -- Nonce (12 bytes), ciphertext, tag (16 bytes) of AES-256-GCM.
    ciphertext  bytea not null check (length(ciphertext) >= 28),
    updated_at  timestamptz not null default now(),
    primary key (config_id, field)
);

-- Null: the provider that the environment configures (JITSI_DOMAIN, …). `not valid` spares looking through all
-- sessions under a lock: those that are there have null.
alter table sessions add column provider_config_id uuid;
alter table sessions add constraint sessions_provider_config_id_fkey
    foreign key (provider_config_id) references provider_configs (id) on delete set null not valid;
create index sessions_provider_config_idx on sessions (provider_config_id) where provider_config_id is not null;

-- Words of providers are those of the webhooks' addresses. No session of another provider than jitsi could be made yet.
alter table sessions drop constraint sessions_provider_check;
alter table sessions add constraint sessions_provider_check
    check (provider in ('jitsi', 'jaas', 'bbb', 'zoom')) not valid;

-- By whose secret an event was verified: null is the environment's. It is about sessions of that configuration alone.
alter table webhook_events add column provider_config_id uuid;
