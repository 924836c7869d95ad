hello = node['hello-chef']
rebar = node['rebar']

package 'busybox'

directory '/srv/hello'

template '/srv/hello/index.html' do
  source 'page.erb'
  variables(greeting: hello['greeting'], peers: rebar['nodes'].map { |peer| peer['name'] }.sort.join(' '))
end

file '/etc/hello.secret' do
  content "#{hello['password']}\n"
  mode '0600'
  sensitive true
end

execute 'a step that fails' do
  command '/bin/false'
  only_if { hello['broken'] }
end

execute 'busybox httpd -p 8088 -h /srv/hello' do
  not_if 'pgrep -x busybox'
end

node.override['rebar']['output']['url'] = "http://#{rebar['node']['name']}:8088/"
