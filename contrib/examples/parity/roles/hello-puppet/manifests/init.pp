class hello_puppet(
  String            $greeting,
  Sensitive[String] $password,
  Boolean           $broken = false,
) {
  $rebar = lookup('rebar')
  $peers = join(sort($rebar['nodes'].map |$node| { $node['name'] }), ' ')

  package { 'busybox': ensure => installed }
  -> file { '/srv/hello': ensure => directory }
  -> file { '/srv/hello/index.html':
    content => epp('hello_puppet/page.epp', { 'greeting' => $greeting, 'peers' => $peers }),
  }
  -> file { '/etc/hello.secret':
    mode    => '0600',
    content => Sensitive("${password.unwrap}\n"),
  }
  if $broken {
    exec { 'a step that fails': command => '/bin/false', require => File['/etc/hello.secret'] }
  }
  service { 'hello':
    ensure   => running,
    provider => base,
    start    => '/bin/busybox httpd -p 8088 -h /srv/hello',
    status   => "/usr/bin/pgrep -x busybox",
    require  => File['/srv/hello/index.html'],
  }
  file { "${facts['rebar_outputs']}/url":
    content => "http://${rebar['node']['name']}:8088/\n",
  }
}
