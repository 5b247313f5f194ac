-- Tells the live-session service who is in which room: rooms created and destroyed, people joined and left, each as a
-- JSON document by POST to `webhook_url`.
--
-- Numbered, in order, one at a time, each repeated until it is taken; signed as https://www.standardwebhooks.com says. What is
-- not taken yet, and who is where, outlives a killed Prosody in a file.
-- The fields are those of jitsi-contrib's event_sync, and more: see docs/API.md, Webhooks.
--
-- Load it on the MUC component or on the VirtualHost beside it, not on both:
--     modules_enabled = { "webhook" }
--     webhook_url = "https://api.example.org/api/v1/live-sessions/webhooks/jitsi/"
--     webhook_secret = "the value of JITSI_WEBHOOK_SECRET"
-- With `webhook_control_secret` the service can also end rooms and remove people: mod_webhook_control.lua has to be there then.
-- More options, with their defaults: deploy/README.md. Prosody 0.12 or later.

local datamanager = require "util.datamanager";
local base64 = require "util.encodings".base64;
local hmac_sha256 = require "util.hashes".hmac_sha256;
local http = require "net.http";
local jid = require "util.jid";
local json = require "util.json";
local new_queue = require "util.queue".new;
local new_uuid = require "util.uuid".generate;
local now = require "util.time".now;

local url = module:get_option_string("webhook_url");
local secret = module:get_option_string("webhook_secret", "");
-- Seconds until an unanswered request is given up, and how many events wait at most.
local timeout = module:get_option_number("webhook_timeout", 20);
local limit = module:get_option_number("webhook_queue_limit", 10000);

local LONGEST_PAUSE = 60;
-- Answers that no repeat will change, because the event itself is refused. Whatever else is wrong (an address, a secret, a
-- clock, a server) somebody mends, so the event waits.
local REFUSED = { [400] = true, [413] = true, [415] = true, [422] = true };
-- The code of an answer 401 that is final: nobody's secret is good for a room that is no session.
local ROOM_UNKNOWN = "webhook-room-unknown";
-- So often the file is told that Prosody is alive, in seconds: as exact as that is the end of a room that a crash closed.
local SIGN_OF_LIFE = 10;
-- Lines of the file beyond what they are about, until it is written anew.
local SPARE_LINES = 1000;
-- The rooms with which jicofo tries out Prosody.
local HEALTH_CHECK = "__jicofo-health-check";

if not url or secret:match("^%s*$") then
	module:log("error", "webhook_url and webhook_secret must be set for %s: no events are sent", module.host);
	return;
end
secret = secret:match("^%s*(.-)%s*$");
-- As the specification writes keys, or any other text as it is.
local encoded_key = secret:match("^whsec_(.+)$");
local key = encoded_key and base64.decode(encoded_key) or secret;

-- What outlives a reload of this module.
local state = module.saved_state or {};
state.start_id = state.start_id or new_uuid();
state.sequence = state.sequence or 0;
state.dropped = state.dropped or 0;
state.time = state.time or 0;
-- By JID: { created_at, main (JID of the main room, of a breakout), occupants = { [real JID] = occupant } }.
state.rooms = state.rooms or {};

function module.save()
	return state;
end

-- The journal ------------------------------------------------------------------------------------------------------------

-- What waits; the one being sent is `head`. When it is full, the oldest goes: the newest tell most of what is.
local waiting = new_queue(limit, true);
local head, request, pause;
local failures = 0;
local ready = false;

-- What outlives the process, one JSON document a line: first how things stood ({ start_id, sequence, dropped, time, rooms }),
-- then what has come since: an event ({ id, room, body }), its end ({ settled, dropped }), a sign of life ({ alive }). Each line
-- is handed to the system at once, so that it survives a killed Prosody; whether it survives a machine without power is up to
-- the file system. Not in the host's storage: a MUC component of Jitsi has that in memory, and a host for anonymous people
-- refuses to write.
local file = datamanager.getpath(nil, module.host, "webhook_journal", "jsonl", true);
local journal;
local lines = 0;

local function write(to, entry)
	local written, why = to:write(json.encode(entry), "\n");
	if written then written, why = to:flush(); end
	return written, why;
end

-- Begins the file anew with what is.
local function rewrite()
	if journal then journal:close(); end
	journal = nil;
	local fresh, why = io.open(file .. ".new", "w");
	local written = fresh;
	local function add(entry)
		if not written then return; end
		written, why = write(fresh, entry);
		lines = lines + 1;
	end
	lines = 0;
	add({
		start_id = state.start_id, sequence = state.sequence, dropped = state.dropped, time = state.time, rooms = state.rooms;
	});
	if head then add(head); end
	for _, event in waiting:items() do add(event); end
	if written then written, why = os.rename(file .. ".new", file); end
	if written then
		journal = fresh;
	else
		if fresh then fresh:close(); end
		module:log("error", "what is not sent yet cannot be kept, and would be lost with Prosody: %s", why);
	end
end

local function keep(entry)
	if not journal then return; end
	local written, why = write(journal, entry);
	lines = lines + 1;
	if not written then
		module:log("error", "%s cannot be written: %s", file, why);
		journal:close();
		journal = nil;
	elseif lines > 2 * waiting:count() + SPARE_LINES then
		rewrite();
	end
end

-- The queue --------------------------------------------------------------------------------------------------------------

local count_dropped = module:measure("dropped", "counter");

local function drop(event)
	state.dropped = state.dropped + 1;
	count_dropped(1);
	keep({ settled = event.id, dropped = true });
end

-- Whether no repeat can change the answer.
local function is_final(code, answer)
	if code ~= 401 then return REFUSED[code]; end
	local problem = json.decode(answer or "");
	return type(problem) == "table" and problem.code == ROOM_UNKNOWN;
end

local deliver;

local function settle(code, answer, response)
	request = nil;
	if code >= 200 and code < 300 then
		if failures > 0 then
			module:log("info", "%s takes events again", url);
		end
		local taken = head;
		head, failures = nil, 0;
		keep({ settled = taken.id });
		return deliver();
	elseif is_final(code, answer) then
		-- Rooms that are no sessions are nothing to worry about.
		module:log(code == 401 and "info" or "error",
			"%s refused %s with %d, it is dropped: %s", url, head.id, code, tostring(answer):sub(1, 200));
		local refused = head;
		head, failures = nil, 0;
		drop(refused);
		return deliver();
	end
	failures = failures + 1;
	local asked = response and response.headers and tonumber(response.headers["retry-after"]);
	local seconds = math.min(math.max(2 ^ math.min(failures - 1, 10), asked or 0), LONGEST_PAUSE);
	seconds = math.floor(seconds);
	module:log("warn", "%s does not take %s (%s %s), again in %d s, %d more wait",
		url, head.id, code, tostring(answer):sub(1, 200), seconds, waiting:count());
	pause = module:add_timer(seconds, function ()
		pause = nil;
		deliver();
	end);
end

function deliver()
	if request or pause or not ready then return; end
	head = head or waiting:pop();
	if not head then return; end
	-- Signed anew each time: the receiver refuses old signatures.
	local time = tostring(os.time());
	local signature = base64.encode(hmac_sha256(key, head.id .. "." .. time .. "." .. head.body));
	local this = {};
	request = this;
	local function done(...)
		-- Not when the time was over before.
		if request ~= this then return; end
		this.timer:stop();
		settle(...);
	end
	this.timer = module:add_timer(timeout, function ()
		if this.request then http.destroy_request(this.request); end
		if request == this then settle(0, "no answer in time"); end
	end);
	this.request = http.request(url, {
		method = "POST";
		headers = {
			["Content-Type"] = "application/json";
			["Webhook-Id"] = head.id;
			["Webhook-Timestamp"] = time;
			["Webhook-Signature"] = "v1," .. signature;
		};
		body = head.body;
	}, function (answer, code, response) done(code, answer, response); end);
end

local function enqueue(event)
	if waiting:count() >= limit then
		drop(waiting:pop());
		if state.dropped % 1000 == 1 then
			module:log("error", "the queue is full: %d events are dropped so far", state.dropped);
		end
	end
	waiting:push(event);
	keep(event);
	deliver();
end

-- Rooms and people -------------------------------------------------------------------------------------------------------

-- Seconds with milliseconds, never running backwards.
local function time()
	state.time = math.max(state.time, math.floor(now() * 1000) / 1000);
	return state.time;
end

-- What it tells of is in `state` already: with the event's number there, the file would not be asked for it again.
local function tell(name, room_jid, room, fields)
	state.sequence = state.sequence + 1;
	local event = {
		id = state.start_id .. "-" .. state.sequence;
		start_id = state.start_id;
		sequence = state.sequence;
		dropped = state.dropped;
		event_name = name;
		room_jid = room.main or room_jid;
		room_name = jid.node(room.main or room_jid);
		meeting_id = room.meeting_id;
		is_breakout = room.main ~= nil;
		breakout_room_id = room.main and jid.node(room_jid);
	};
	for field, value in pairs(fields) do event[field] = value; end
	enqueue({ id = event.id, room = room_jid, body = json.encode(event) });
end

local function rooms_of(host)
	local muc = prosody.hosts[host].modules and prosody.hosts[host].modules.muc;
	local rooms = {};
	if muc then
		for room in muc.live_rooms() do table.insert(rooms, room); end
	end
	return rooms;
end

-- The room to which a breakout belongs, as mod_muc_breakout_rooms notes it down.
local function main_of(room)
	for host in pairs(prosody.hosts) do
		for _, main in ipairs(rooms_of(host)) do
			local breakouts = main._data and main._data.breakout_rooms;
			if breakouts and breakouts[room.jid] then return main; end
		end
	end
end

-- Notes a room down, and tells of it when it is new. Its id may change until mod_muc_meeting_id and jicofo agree.
local function note(room)
	local known = state.rooms[room.jid];
	local new = not known;
	if new then
		local main = main_of(room);
		known = { created_at = time(), main = main and main.jid, occupants = {} };
		known.main_room_id = main and main._data.meetingId;
		state.rooms[room.jid] = known;
	end
	known.meeting_id = known.main_room_id or not known.main and room._data and room._data.meetingId or nil;
	if new then
		tell("muc-room-created", room.jid, known, { created_at = known.created_at });
	end
	return known;
end

local function forget(room_jid, at)
	at = at or time();
	local room = state.rooms[room_jid];
	state.rooms[room_jid] = nil;
	tell("muc-room-destroyed", room_jid, room, { created_at = room.created_at, destroyed_at = at });
end

local function left(room_jid, occupant_jid, at)
	local room = state.rooms[room_jid];
	local occupant = room.occupants[occupant_jid];
	if occupant then
		occupant.left_at = at or time();
		room.occupants[occupant_jid] = nil;
		tell("muc-occupant-left", room_jid, room, { occupant = occupant });
	end
end

-- Everybody left all rooms, which are gone: nobody else says so of a server that stops or stopped.
local function forget_all(at)
	for room_jid, room in pairs(state.rooms) do
		for occupant_jid in pairs(room.occupants) do left(room_jid, occupant_jid, at); end
		forget(room_jid, at);
	end
end

-- A text or a number of the token as text; it may hold any JSON.
local function text(value)
	if type(value) == "number" then return ("%.14g"):format(value); end
	return type(value) == "string" and value ~= "" and value or nil;
end

local function joined(room, occupant, session, stanza)
	local user = session and session.jitsi_meet_context_user;
	user = type(user) == "table" and user or {};
	-- Before the time of the person, who came into it.
	local known = note(room);
	local at = time();
	local person = {
		occupant_jid = occupant.jid;
		id = text(user.id);
		name = text(user.name) or stanza and text(stanza:get_child_text("nick", "http://jabber.org/protocol/nick"));
		joined_at = at;
	};
	known.occupants[occupant.jid] = person;
	tell("muc-occupant-joined", room.jid, known, { occupant = person });
end

-- What happens on one MUC component --------------------------------------------------------------------------------------

local function is_test(room)
	return jid.node(room.jid):sub(1, #HEALTH_CHECK) == HEALTH_CHECK;
end

-- Whether it is one of Jitsi's own machines: focus and other administrators, recorders, transcribers.
local function machines_of(host)
	local context = module:context(host);
	local admins = context:get_option_inherited_set("admins", {});
	local prefixes = context:get_option_inherited_set("recorder_prefixes",
			{ "recorder@recorder.", "jibria@recorder.", "jibrib@recorder." })
		+ context:get_option_inherited_set("transcriber_prefixes", { "transcriber@recorder." });
	return function (occupant)
		if jid.resource(occupant.nick) == "focus" or jid.node(occupant.jid) == "focus" then return true; end
		if admins:contains(jid.bare(occupant.jid)) then return true; end
		for prefix in prefixes do
			if occupant.jid:sub(1, #prefix) == prefix then return true; end
		end
		return false;
	end;
end

-- Who reports on which component: two of us would tell everything twice.
local claims = module:shared("/*/webhook/claims");
local attached = {};

local function attach(host)
	if claims[host] and claims[host] ~= module.host then
		module:log("error", "events of %s are sent by the module on %s already", host, claims[host]);
		return;
	end
	claims[host], attached[host] = module.host, true;
	local is_machine = machines_of(host);
	local component = module:context(host);

	-- The first of all joins before the room counts as created.
	component:hook("muc-occupant-joined", function (event)
		if is_test(event.room) or is_machine(event.occupant) then return; end
		joined(event.room, event.occupant, event.origin or prosody.full_sessions[event.occupant.jid], event.stanza);
	end);
	-- After mod_muc_meeting_id, at 0, has given the room its id.
	component:hook("muc-room-created", function (event)
		if not is_test(event.room) then note(event.room); end
	end, -10);
	-- Before mod_muc, at -1, destroys a room that is empty.
	component:hook("muc-occupant-left", function (event)
		if not state.rooms[event.room.jid] then return; end
		note(event.room);
		left(event.room.jid, event.occupant.jid);
	end);
	component:hook("muc-room-destroyed", function (event)
		if state.rooms[event.room.jid] then forget(event.room.jid); end
	end);

	-- Who is there already, when the module is loaded into a server that runs.
	for _, room in ipairs(rooms_of(host)) do
		for _, occupant in room:each_occupant() do
			local known = state.rooms[room.jid] and state.rooms[room.jid].occupants[occupant.jid];
			if not known and not is_test(room) and not is_machine(occupant) then
				joined(room, occupant, prosody.full_sessions[occupant.jid]);
			end
		end
	end
end

function module.unload()
	for host in pairs(attached) do claims[host] = nil; end
	if request and request.request then http.destroy_request(request.request); end
	request = nil;
	state.events = {};
	if head then state.events[1] = head; end
	for _, event in waiting:items() do table.insert(state.events, event); end
	if journal then journal:close(); end
	journal = nil;
end

-- Start and end ----------------------------------------------------------------------------------------------------------

-- What an event of an earlier start says of the rooms.
local function replay(entry)
	local event = json.decode(entry.body);
	-- What waited when the file was begun is told by its first line already.
	if event.start_id ~= state.start_id or event.sequence <= state.sequence then return; end
	state.sequence, state.dropped = event.sequence, event.dropped;
	local occupant, room = event.occupant, state.rooms[entry.room];
	if room then room.meeting_id = event.meeting_id; end
	if event.event_name == "muc-room-created" then
		state.time = math.max(state.time, event.created_at);
		state.rooms[entry.room] = {
			created_at = event.created_at;
			main = event.is_breakout and event.room_jid or nil;
			meeting_id = event.meeting_id;
			main_room_id = event.is_breakout and event.meeting_id or nil;
			occupants = {};
		};
	elseif event.event_name == "muc-room-destroyed" then
		state.time = math.max(state.time, event.destroyed_at);
		state.rooms[entry.room] = nil;
	elseif occupant then
		state.time = math.max(state.time, occupant.left_at or occupant.joined_at);
		if room then
			room.occupants[occupant.occupant_jid] = event.event_name == "muc-occupant-joined" and occupant or nil;
		end
	end
end

-- What the last run left in the file: the events that it could not send, in their order, and who was where.
local function read_journal()
	local kept = io.open(file);
	if not kept then return; end
	local events, settled = {}, {};
	for line in kept:lines() do
		-- Nil for the line in which it was killed.
		local entry = json.decode(line);
		if type(entry) ~= "table" then
			module:log("info", "a line of %s breaks off", file);
		elseif entry.start_id then
			for field, value in pairs(entry) do state[field] = value; end
		elseif entry.body then
			replay(entry);
			table.insert(events, entry);
		elseif entry.settled then
			settled[entry.settled] = true;
			if entry.dropped then state.dropped = state.dropped + 1; end
		elseif entry.alive then
			state.time = math.max(state.time, entry.alive);
		end
	end
	kept:close();
	state.events = {};
	for _, event in ipairs(events) do
		if not settled[event.id] then table.insert(state.events, event); end
	end
end

-- A repeat of what was sent just before a crash is recognised by its id.
local reloaded = state.events ~= nil;
if not reloaded then read_journal(); end
for index, event in ipairs(state.events or {}) do
	if index == 1 then head = event; else waiting:push(event); end
end
state.events = nil;
if not reloaded then
	-- By the last sign of life: that was when.
	forget_all(state.time);
	state.start_id, state.sequence, state.dropped = new_uuid(), 0, 0;
end
rewrite();
module:add_timer(SIGN_OF_LIFE, function ()
	if not journal then rewrite(); elseif next(state.rooms) then keep({ alive = time() }); end
	return SIGN_OF_LIFE;
end);

module:hook_global("server-cleanup", function () forget_all(); end);

if module:get_host_type() == "component" then
	attach(module.host);
else
	local own = module.host;
	local components = module:get_option_set("webhook_components", { "conference." .. own, "muc." .. own, "breakout." .. own });
	local function look()
		for host in components do
			if prosody.hosts[host] and not attached[host] then attach(host); end
		end
	end
	look();
	module:hook_global("host-activated", look);
	module:hook_global("server-started", function ()
		if not next(attached) then
			module:log("error", "none of %s exists: set webhook_components to your MUC components", tostring(components));
		end
	end);
end

if module:get_option_string("webhook_control_secret") then module:depends("webhook_control"); end
ready = true;
deliver();
