# Sidekiq (free edition) on Redis: required by `sidekiq` it is the application, run as a program it pushes and
# prints one JSON line.
require "json"
require "redis"
require "sidekiq"

URL = ENV.fetch("PEER_REDIS_URL")
Sidekiq.configure_server do |config|
  config.redis = { url: URL }
  # Without two log lines per job.
  config.logger.level = Logger::WARN
  config.on(:startup) { $stderr.puts("peer ready") }
end
Sidekiq.configure_client { |config| config.redis = { url: URL, size: 20 } }

class Noop
  include Sidekiq::Worker

  def perform(_note = "", sleep_ms = 0)
    sleep(sleep_ms / 1000.0) if sleep_ms > 0
  end
end

class Stamp
  include Sidekiq::Worker

  def perform(called)
    waited = (Time.now.to_f - called) * 1000
    Sidekiq.redis { |redis| redis.rpush("bench:samples", waited.to_s) }
  end
end

def push(count, threads)
  workers = Array.new(threads) { |t| Thread.new { (count / threads).times { |n| Noop.perform_async("#{t}-#{n}") } } }
  workers.each(&:join)
end

def bulk(count, sleep_ms = 0)
  (0...count).each_slice(1000) do |slice|
    Sidekiq::Client.push_bulk("class" => Noop, "args" => slice.map { |n| [n.to_s, sleep_ms] })
  end
end

def pace(rate, seconds)
  start = Time.now.to_f
  (rate * seconds).times do |n|
    sleep([0, start + n.fdiv(rate) - Time.now.to_f].max)
    Stamp.perform_async(Time.now.to_f)
  end
end

if $PROGRAM_NAME == __FILE__
  Sidekiq.redis(&:ping)
  wall = Process.clock_gettime(Process::CLOCK_MONOTONIC)
  cpu = Process.clock_gettime(Process::CLOCK_PROCESS_CPUTIME_ID)
  command, *numbers = ARGV
  send(command, *numbers.map(&:to_i))
  seconds = Process.clock_gettime(Process::CLOCK_MONOTONIC) - wall
  puts({ seconds: seconds, cpu: Process.clock_gettime(Process::CLOCK_PROCESS_CPUTIME_ID) - cpu }.to_json)
end
