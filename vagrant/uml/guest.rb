# frozen_string_literal: true

# One user-mode Linux guest: a kernel that is an ordinary process, in a network namespace that has no way out.
#
# Source: Documentation/virt/uml/user_mode_linux_howto_v2, ip-netns(8), veth(4).

require "fileutils"
require "open3"
require "socket"
require_relative "../boot"

module NavarchUml
  class Failure < Vagrant::Errors::VagrantError
    def initialize(message) = super(message: message)
    def error_message = extra_data[:message]
  end

  class Guest
    MCONSOLE = [0xcafebabe, 2].freeze # magic and version: arch/um/drivers/mconsole.h
    NETWORK = Mutex.new # guests are brought up beside each other

    def initialize(name, folder, config)
      @name, @folder, @config = name, folder.to_s, config
    end

    def running? = !pid.nil?

    def created? = File.exist?(cow)

    def start
      return if running?

      NETWORK.synchronize { plug }
      FileUtils.mkdir_p(@folder, mode: 0o700)
      console = File.open("#{@folder}/console.log", "a", 0o600)
      # A session of its own: it outlives the terminal, and is one group to kill.
      started = Process.spawn({ "TMPDIR" => "/dev/shm", "PATH" => ENV.fetch("PATH") }, "setsid", *entry, @config.kernel,
                              *options, in: "/dev/null", %i[out err] => console, unsetenv_others: true)
      console.close
      File.write("#{@folder}/pid", "#{started}\n")
      Process.detach(started)
      100.times { running? && created? ? return : sleep(0.1) } # until it is that program, with its disk
      raise Failure, "#{@name} does not start: see #{@folder}/console.log"
    end

    # Powers the guest off; `wait` is how long it may take to do so by itself.
    def stop(wait: 0)
      sleep 0.1 while running? && (wait -= 0.1).positive?
      return unless (group = pid)

      mconsole("halt")
      20.times { running? ? sleep(0.05) : break }
      Process.kill(:KILL, -group)
    rescue Errno::ESRCH
      nil # it was quicker
    end

    def destroy
      stop
      # The next machine of this name has another host key.
      known = "#{File.dirname(@config.key)}/known_hosts"
      system("ssh-keygen", "-q", "-f", known, "-R", @config.address, %i[out err] => File::NULL) if File.exist?(known)
      FileUtils.rm_rf([cow, "#{@folder}/uml", "#{@folder}/console.log", "#{@folder}/pid"])
      NETWORK.synchronize { unplug }
    end

    private

    def cow = "#{@folder}/root.cow"
    def namespace_file = "/run/netns/#{@config.namespace}"
    def card = "#{@name}-uml"

    # The process that was started here, if it is still that one.
    def pid
      found = File.read("#{@folder}/pid").to_i
      found if File.read("/proc/#{found}/cmdline").include?("umid=#{@name}\0")
    rescue Errno::ENOENT, Errno::ESRCH
      nil
    end

    def options
      ["mem=#{@config.memory}M", "ncpus=1", "seccomp=on", "umid=#{@name}", "uml_dir=#{@folder}/uml",
       # What a guest has written is the host's: it outlives the guest, so waiting for the host's disk gains nothing.
       "ubd0=#{cow},#{@config.image}", "root=/dev/ubda", "rootflags=barrier=0", "rw", "con=null", "con0=null,fd:1", "quiet",
       "vec0:transport=raw,ifname=#{card},mac=#{NavarchBoot.mac(@config.address)}",
       *NavarchBoot.words(@name, @config.address, @config.prefix_length, @config.gateway, @config.key)]
    end

    def mconsole(command)
      socket = Socket.new(:UNIX, :DGRAM)
      socket.connect(Socket.sockaddr_un("#{@folder}/uml/#{@name}/mconsole"))
      socket.send([*MCONSOLE, command.bytesize, command].pack("LLLa512"), 0)
    rescue SystemCallError
      nil # the guest is past listening
    ensure
      socket&.close
    end

    def plug
      unless File.exist?(namespace_file)
        run("ip", "netns", "add", @config.namespace)
        inside("sysctl", "-q", "net.ipv6.conf.default.disable_ipv6=1", "net.ipv4.ip_forward=1")
        inside("ip", "link", "set", "lo", "up")
        inside("ip", "link", "add", "br0", "type", "bridge")
        inside("ip", "address", "add", "#{@config.gateway}/#{@config.prefix_length}", "dev", "br0")
        inside("ip", "link", "set", "br0", "up")
      end
      return if system(*entry, "ip", "link", "show", "dev", card, %i[out err] => File::NULL)

      inside("ip", "link", "add", @name, "type", "veth", "peer", "name", card)
      [@name, card].each do |link|
        # A guest takes whole frames from a raw socket: it can neither split large ones nor make their checksums good.
        inside("ethtool", "-K", link, *%w[tx off tso off gso off gro off])
        inside("ip", "link", "set", link, "up")
      end
      inside("ip", "link", "set", @name, "master", "br0")
    end

    def unplug
      return unless File.exist?(namespace_file)

      system(*entry, "ip", "link", "delete", @name, %i[out err] => File::NULL)
      left, = Open3.capture2(*entry, "ip", "-o", "link", "show", "type", "veth")
      run("ip", "netns", "delete", @config.namespace) if left.empty?
    end

    def entry = ["nsenter", "--net=#{namespace_file}"]

    def inside(*command) = run(*entry, *command)

    def run(*command)
      said, status = Open3.capture2e(*command)
      raise Failure, "#{command.join(" ")}: #{said.strip}" unless status.success?
    rescue Errno::ENOENT
      raise Failure, "#{command.first}: no such program"
    end
  end
end
