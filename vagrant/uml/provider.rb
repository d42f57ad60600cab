# frozen_string_literal: true

# Vagrant's provider `uml`: user-mode Linux guests, for machines without hardware virtualisation.
#
# Source: https://developer.hashicorp.com/vagrant/docs/plugins/providers.

require_relative "guest"

module NavarchUml
  class Plugin < Vagrant.plugin("2")
    name "uml"
    description "User-mode Linux guests"
    config(:uml, :provider) { Config }
    provider(:uml, box_optional: true, defaultable: false, parallel: true) { Provider }
  end

  class Config < Vagrant.plugin("2", :config)
    FIELDS = %i[kernel image key namespace address prefix_length gateway memory].freeze
    attr_accessor(*FIELDS)

    def initialize
      super
      FIELDS.each { |field| instance_variable_set("@#{field}", UNSET_VALUE) }
    end

    def validate(_machine)
      errors = FIELDS.filter_map { |field| "#{field} is not set" if public_send(field) == UNSET_VALUE }
      errors += [kernel, image, key].grep(String).reject { |file| File.exist?(file) }.map do |file|
        "#{file}: no such file; `./navarch up --vms` makes it"
      end
      errors << "must be run as root" unless Process.uid.zero?
      { "uml" => errors }
    end
  end

  class Provider < Vagrant.plugin("2", :provider)
    def initialize(machine)
      super
      @machine = machine
    end

    def guest = Guest.new(@machine.name.to_s, @machine.data_dir, @machine.provider_config)

    def state
      id = if guest.running? then :running
           elsif guest.created? then :poweroff
           else :not_created
           end
      Vagrant::MachineState.new(id, id.to_s.tr("_", " "), "A user-mode Linux guest.")
    end

    # Nothing outside the namespace reaches a guest, so the connection is made inside.
    def ssh_info
      return unless guest.running?

      proxy = "nsenter --net=/run/netns/#{@machine.provider_config.namespace} busybox nc %h %p"
      { host: @machine.provider_config.address, port: 22, proxy_command: proxy }
    end

    def action(name)
      built = Vagrant::Action::Builtin
      steps = {
        up: [built::ConfigValidate, built::Provision, Act.for(:start), [built::WaitForCommunicator, [:running]]],
        reload: [built::ConfigValidate, built::Provision, Act.for(:stop), Act.for(:start),
                 [built::WaitForCommunicator, [:running]]],
        halt: [Act.for(:shut_down)], destroy: [Act.for(:destroy)],
        provision: [built::ConfigValidate, built::Provision], ssh: [built::SSHExec], ssh_run: [built::SSHRun]
      }[name]
      steps && Vagrant::Action::Builder.new.tap { |builder| steps.each { |step| builder.use(*step) } }
    end
  end

  # A step of an action: what is to be done with the guest, then the steps after it.
  class Act
    def self.for(verb) = [self, verb]

    def initialize(app, _env, verb)
      @app, @verb = app, verb
    end

    def call(env)
      machine = env[:machine]
      public_send(@verb, machine, machine.provider.guest)
      @app.call(env)
    end

    def start(machine, guest)
      guest.start
      machine.id = machine.name.to_s
    end

    def stop(_machine, guest) = guest.stop

    def shut_down(machine, guest)
      return unless guest.running?

      machine.communicate.sudo("systemctl --no-block poweroff", error_check: false) if machine.communicate.ready?
      guest.stop(wait: machine.config.vm.graceful_halt_timeout)
    end

    def destroy(machine, guest)
      guest.destroy
      machine.id = nil
    end
  end
end
