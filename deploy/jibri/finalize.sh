#!/usr/bin/env bash
# Hands over to the live-session service what a Jibri has recorded. Jibri calls it with the directory of one recording:
#
#     jibri.recording.finalize-script = "/opt/live-sessions/finalize.sh"
#
# It may be called as often as one likes, and be killed at any time: it asks the service which parts of the film are missing, and
# sends those. The recording is deleted here when the service has read all of it back. What could not be handed over stays; a
# timer (cron, systemd) brings it later:
#
#     finalize.sh --all /storage/recordings
#
# Settings come from the environment, or from the file $LIVE_SESSIONS_CONFIG (/etc/jitsi/jibri/live-sessions.conf):
#
#   LIVE_SESSIONS_URL          the configuration's webhook_url, such as https://api.example.org/api/v1/live-sessions/webhooks/jitsi/
#   LIVE_SESSIONS_SECRET       its webhook_secret; or LIVE_SESSIONS_SECRET_FILE, the file in which it is
#   LIVE_SESSIONS_PATIENCE     seconds until it gives up for this time (3600)
#   LIVE_SESSIONS_LIMIT_RATE   bytes per second that it sends at most, as of curl: 500k, 4M (no limit)
#   LIVE_SESSIONS_KEEP         yes: nothing is deleted here (no)
#
# Needs bash, coreutils, curl, flock, openssl.
set -euo pipefail

say() { printf 'live-sessions: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

config=${LIVE_SESSIONS_CONFIG:-/etc/jitsi/jibri/live-sessions.conf}
# shellcheck source=/dev/null
if [ -r "$config" ]; then . "$config"; fi
patience=${LIVE_SESSIONS_PATIENCE:-3600}
# A recording that Jibri is still writing is newer than this many minutes.
settled=30

# Of the secret nothing is to be seen in the list of processes: builtins and pipes alone. Prints the bytes in hexadecimal.
hex() { od -An -v -tx1 | tr -d ' \n'; }

read_secret() {
    local secret=${LIVE_SESSIONS_SECRET:-}
    if [ -n "${LIVE_SESSIONS_SECRET_FILE:-}" ]; then secret=$(<"$LIVE_SESSIONS_SECRET_FILE"); fi
    [ -n "$secret" ] || die "LIVE_SESSIONS_SECRET is missing: the webhook_secret of the Jitsi at the service"
    case $secret in
        whsec_*) key=$(printf %s "${secret#whsec_}" | base64 -d | hex) ;;
        *) key=$(printf %s "$secret" | hex) ;;
    esac
    # RFC 2104: a key that is longer than a block is hashed.
    if [ "${#key}" -gt 128 ]; then key=$(unhex "$key" | openssl dgst -sha256 -binary | hex); fi
    while [ "${#key}" -lt 128 ]; do key+=00; done
}

unhex() { printf '%b' "$(printf %s "$1" | sed 's/../\\x&/g')"; }

# The key with each byte xor'ed.
pad() {
    local out='' i
    for ((i = 0; i < 128; i += 2)); do out+=$(printf '\\x%02x' $((16#${key:i:2} ^ $1))); done
    printf '%b' "$out"
}

# HMAC-SHA256 (RFC 2104) of the standard input, in base64.
hmac() {
    local inner
    inner=$({ pad 0x36; cat; } | openssl dgst -sha256 -binary | hex)
    { pad 0x5c; unhex "$inner"; } | openssl dgst -sha256 -binary | base64
}

# Text for a JSON string; control characters are left out.
json() { printf %s "$1" | tr -d '\000-\037\177' | sed 's/\\/\\\\/g; s/"/\\"/g'; }

# The room, by the address of the meeting; without metadata by the name of the file, <room>_<date>.<ending>.
room_of() {
    local address='' name
    if [ -r "$1/metadata.json" ]; then
        address=$(tr -d '\n' <"$1/metadata.json" | sed -n 's/.*"meeting_url"[[:space:]]*:[[:space:]]*"\([^"]*\)".*/\1/p')
    fi
    address=${address%%[?#]*}
    name=${address%/}
    name=${name##*/}
    if [ -z "$name" ]; then
        name=$(basename "$2" | sed 's/_[0-9]\{4\}-[0-9][0-9]-[0-9][0-9]-[0-9][0-9]-[0-9][0-9]-[0-9][0-9]\.[^.]*$//')
    fi
    printf %s "$name"
}

# Asks the service how far it is. The status goes to $status, the answer to $work/answer.
ask() {
    local id time
    time=$(date +%s)
    id=recording-$time-$RANDOM$RANDOM
    local signature
    signature=$({ printf '%s.%s.' "$id" "$time"; cat "$work/body"; } | hmac)
    status=$(curl --silent --show-error --max-time 60 --output "$work/answer" --write-out '%{http_code}' \
        --header 'Content-Type: application/json' --header 'Accept: text/plain' --header "webhook-id: $id" \
        --header "webhook-timestamp: $time" --header "webhook-signature: v1,$signature" \
        --data-binary "@$work/body" "${LIVE_SESSIONS_URL%/}/recordings/" 9>&-) || status=000
}

# One part, by its presigned address, which is a secret for an hour.
send() {
    local first=$1 bytes=$2 url=$3
    dd if="$file" of="$work/part" bs=1M iflag=skip_bytes,count_bytes skip="$first" count="$bytes" status=none
    printf 'url = "%s"\nupload-file = "%s"\n' "$url" "$work/part" |
        curl --silent --show-error --fail --max-time 1800 --speed-limit 1000 --speed-time 60 \
            ${LIVE_SESSIONS_LIMIT_RATE:+--limit-rate "$LIVE_SESSIONS_LIMIT_RATE"} --output /dev/null --config - 9>&-
}

# Brings one file to its end; false when it has to be tried again later.
hand_over() {
    local dir=$1 wait=1 again=0 state word number first bytes url deadline
    deadline=$((SECONDS + patience))
    printf '{"room": "%s", "recording": "%s", "file_name": "%s", "bytes": %s, "sha256": "%s"}' \
        "$(json "$(room_of "$dir" "$file")")" "$(json "$(basename "$dir")")" "$(json "$(basename "$file")")" \
        "$(stat -c %s "$file")" "$(sha256sum <"$file" | cut -c1-64)" >"$work/body"
    while [ "$SECONDS" -lt "$deadline" ]; do
        ask
        case $status in
            200) ;;
            000 | 408 | 429 | 5??)
                say "the service does not answer ($status); once more in $wait s"
                sleep "$wait" 9>&-
                wait=$((wait < 32 ? wait * 2 : 60))
                continue
                ;;
            *)
                say "$file is refused ($status): $(head -c 1000 "$work/answer")"
                return 1
                ;;
        esac
        state=''
        while read -r word number first bytes url; do
            case $word in
                state) state=$number ;;
                part)
                    if send "$first" "$bytes" "$url"; then wait=1; else
                        sleep "$wait" 9>&-
                        wait=$((wait < 32 ? wait * 2 : 60))
                        break
                    fi
                    ;;
            esac
        done <"$work/answer"
        case $state in
            published | stored | deleted)
                say "$file is handed over"
                return 0
                ;;
            failed)
                # Asking has begun anew; not for ever.
                again=$((again + 1))
                if [ "$again" -gt 3 ]; then
                    say "$file could not be stored"
                    return 1
                fi
                ;;
            expected) ;;
            # It is being read back.
            *) sleep 2 9>&- ;;
        esac
    done
    say "$file is not handed over yet: it stays for the next time"
    return 1
}

one() {
    local dir=${1%/} found=0 done=0
    [ -d "$dir" ] || die "$dir is no directory"
    # Children do not get it (9>&-): one that outlives this process must not hold the lock.
    exec 9>"$dir/.live-sessions.lock"
    flock --nonblock 9 || { say "$dir is being handed over already"; return 0; }
    for file in "$dir"/*.mp4 "$dir"/*.webm "$dir"/*.m4a; do
        [ -f "$file" ] || continue
        found=$((found + 1))
        if hand_over "$dir"; then
            done=$((done + 1))
            if [ "${LIVE_SESSIONS_KEEP:-no}" != yes ]; then rm -f -- "$file"; fi
        fi
    done
    if [ "$found" = 0 ]; then say "there is no film in $dir"; fi
    [ "$done" = "$found" ] || return 1
    if [ "${LIVE_SESSIONS_KEEP:-no}" != yes ]; then
        rm -f -- "$dir/metadata.json" "$dir/.live-sessions.lock"
        rmdir --ignore-fail-on-non-empty -- "$dir"
    fi
}

[ -n "${LIVE_SESSIONS_URL:-}" ] || die "LIVE_SESSIONS_URL is missing: the webhook_url of the Jitsi at the service"
read_secret
work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT

case ${1:-} in
    '' | -h | --help)
        sed -n '2,/^set -/{/^set -/d; s/^# \{0,1\}//; p}' "$0"
        ;;
    --all)
        failed=0
        while IFS= read -r -d '' dir; do
            ( one "$dir" ) || failed=1
        done < <(find "${2:?the directory of all recordings}" -mindepth 1 -maxdepth 1 -type d -mmin "+$settled" -print0)
        exit "$failed"
        ;;
    *) one "$1" ;;
esac
