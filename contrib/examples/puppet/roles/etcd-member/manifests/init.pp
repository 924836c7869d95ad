# A member of the etcd cluster that the nodes of its group make.
class etcd_member(Integer $heartbeat_interval) {
  $rebar = lookup('rebar')
  $own = $rebar['node']
  $members = $rebar['nodes'].filter |$node| { $node['group'] == $own['group'] }

  file { '/etc/etcd': ensure => directory }
  -> class { 'etcd':
    package_name                => 'etcd-server',
    etcd_name                   => $own['name'],
    data_dir                    => '/var/lib/etcd/puppet',
    listen_client_urls          => 'http://0.0.0.0:2379',
    advertise_client_urls       => "http://${own['address']}:2379",
    listen_peer_urls            => 'http://0.0.0.0:2380',
    initial_advertise_peer_urls => "http://${own['address']}:2380",
    initial_cluster             => sort($members.map |$node| { "${node['name']}=http://${node['address']}:2380" }),
    heartbeat_interval          => $heartbeat_interval,
    election_timeout            => 10 * $heartbeat_interval,
    proxy                       => 'off',
  }

  file { "${facts['rebar_outputs']}/url": content => "http://${own['address']}:2379\n" }
}
