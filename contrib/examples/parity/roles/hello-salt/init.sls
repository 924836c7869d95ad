{% set hello = pillar['hello-salt'] %}
{% set rebar = pillar['rebar'] %}
{% set page = '/srv/hello/index.html' %}

busybox:
  pkg.installed

{{ page }}:
  file.managed:
    - source: salt://hello-salt/page.jinja
    - template: jinja
    - makedirs: True

/etc/hello.secret:
  file.managed:
    - contents: {{ hello.password | json }}
    - mode: '0600'
    - show_changes: False
{% if hello.broken %}
a step that fails:
  cmd.run:
    - name: /bin/false
    - require:
      - file: /etc/hello.secret
{% endif %}
hello:
  cmd.run:
    - name: busybox httpd -p 8088 -h /srv/hello
    - unless: pgrep -x busybox
    - require:
      - file: {{ page }}

{{ rebar.outputs }}/url:
  file.managed:
    - contents: http://{{ rebar.node.name }}:8088/
