# A server of redis, and a sentinel that watches the first of the group.
class redis_node(String $maxmemory, Integer $quorum, Sensitive[String] $password) {
  $rebar = lookup('rebar')
  $own = $rebar['node']
  $group = $rebar['nodes'].filter |$node| { $node['group'] == $own['group'] }
  $primary = sort($group) |$a, $b| { compare($a['name'], $b['name']) }[0]

  class { 'redis':
    bind             => '0.0.0.0',
    maxmemory        => $maxmemory,
    requirepass      => $password.unwrap,
    masterauth       => $password.unwrap,
    config_file_mode => '0640',
    ulimit           => false,
    slaveof          => $primary['name'] ? {
      $own['name'] => undef,
      default      => "${primary['address']} 6379",
    },
  }
  # The module leaves that to its user on Debian.
  package { 'redis-sentinel': ensure => present }
  class { 'redis::sentinel':
    redis_host       => $primary['address'],
    auth_pass        => $password.unwrap,
    quorum           => $quorum,
    config_file_mode => '0640',
    init_script      => false,
  }
}
