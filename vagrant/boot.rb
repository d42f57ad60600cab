# frozen_string_literal: true

# What a guest of vagrant/box's image is told by its kernel's command line (navarch-guest), and its network card's address.
module NavarchBoot
  def self.words(name, address, prefix_length, gateway, key)
    ["navarch.hostname=#{name}", "navarch.address=#{address}/#{prefix_length}", "navarch.gateway=#{gateway}",
     "navarch.key=#{File.read("#{key}.pub").split[1]}"]
  end

  # lab/vms/libvirt.py has the same.
  def self.mac(address) = format("02:4e:%02x:%02x:%02x:%02x", *address.split(".").map(&:to_i))
end
