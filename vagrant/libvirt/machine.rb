# frozen_string_literal: true

# What a machine of the lab is to vagrant-libvirt: our image, started by its own kernel, in the lab's own libvirt
# (lab/vms/libvirt.py), whose network has no way out.
#
# Source: https://vagrant-libvirt.github.io/vagrant-libvirt/configuration.html, qemu-img(1), kernel-parameters.

require_relative "../boot"

module NavarchLibvirt
  DISK = "8G" # as the image
  # Nothing to be checked, named or guarded that costs an emulated processor time.
  KERNEL = %w[root=/dev/vda rw console=ttyS0 quiet net.ifnames=0 fsck.mode=skip mitigations=off apparmor=0].freeze
  STARTING_SECONDS = 900

  Lab = Struct.new(:state, :runtime, :namespace, :network, :gateway, keyword_init: true) do
    def uri = "qemu:///system?socket=#{runtime}/libvirt/libvirt-sock"
    def key = "#{state}/key"
    def disk(name) = "#{state}/libvirt/images/#{name}.qcow2"
    # kvm, or qemu: then every instruction is emulated. Of a lab of another provider Vagrant asks too, and it has no file.
    def driver = File.exist?("#{state}/driver") ? File.read("#{state}/driver").strip : "kvm"
  end

  def self.define(libvirt, override, lab, machine)
    name, address = machine.values_at("name", "address")
    libvirt.uri, libvirt.driver, libvirt.default_prefix = lab.uri, lab.driver, ""
    libvirt.cpu_mode = lab.driver == "kvm" ? "host-passthrough" : "maximum"
    libvirt.memory, libvirt.cpus, libvirt.memballoon_enabled = machine["memory_mib"], machine["cpus"], false
    libvirt.graphics_type, libvirt.inputs = "none", []
    libvirt.serial type: "file", source: { path: "#{lab.state}/libvirt/#{name}.log" }
    libvirt.kernel, libvirt.initrd = "#{lab.state}/vmlinuz", "#{lab.state}/initrd"
    words = NavarchBoot.words(name, address, lab.network.split("/").last, lab.gateway, lab.key)
    libvirt.cmd_line = [*KERNEL, *words].join(" ")
    libvirt.storage :file, path: "#{name}.qcow2", size: DISK, type: "qcow2", cache: "unsafe", allow_existing: true
    libvirt.management_network_name, libvirt.management_network_mode = "navarch", "none"
    libvirt.management_network_address, libvirt.management_network_keep = lab.network, true
    libvirt.management_network_mac = NavarchBoot.mac(address)
    override.vm.guest = :debian
    override.ssh.username, override.ssh.insert_key, override.ssh.private_key_path = "root", false, lab.key
    override.ssh.proxy_command = "nsenter --net=/run/netns/#{lab.namespace} busybox nc %h %p 2>/dev/null"
    disk(override, lab, name)
  end

  # A machine's disk is what it changed of the image; Vagrant makes and removes only disks that begin empty.
  def self.disk(override, lab, name)
    file = lab.disk(name)
    override.trigger.before :up do |trigger|
      trigger.ruby do
        run("qemu-img", "create", "-q", "-f", "qcow2", "-b", File.realpath("#{lab.state}/box.ext4"), "-F", "raw", file, DISK) unless File.exist?(file)
        run("virsh", "-q", "-c", lab.uri, "pool-refresh", "default")
      end
    end
    override.trigger.after :up do |trigger|
      trigger.ruby { |_, machine| machine.communicate.wait_for_ready(STARTING_SECONDS) }
    end
    override.trigger.after(:destroy) { |trigger| trigger.ruby { File.delete(file) if File.exist?(file) } }
  end

  def self.run(*command) = system(*command, exception: true)
end
