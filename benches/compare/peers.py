"""The proxies compared: how each is found, configured and started. One worker, upstream keep-alive, the same headers."""

import http.client
import os
import socket
import ssl
import subprocess
import time
from dataclasses import dataclass

from certificate import Certificate
from machine import PROXY_CORE, Process, Refused, free_port, open_files, wait_for_port
from tools import find, version

# What this balancer and Envoy choose of what OpenSSL's clients offer. By themselves nginx and HAProxy take the client's first
# or OpenSSL's, which is AES-256 and costs each of them more.
CIPHER_SUITES = "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"


@dataclass
class Setting:
    """What a proxy stands between, and in which directory."""

    directory: str
    origins: list
    certificate: Certificate
    access_log: bool = False
    traced: float = 0  # share of requests, sent to the first origin
    echo: str = ""  # a WebSocket server, reached at /ws; empty: there is none
    calls: list = ()  # HTTP/2 without TLS, reached at /call


@dataclass
class Proxy:
    """A running proxy and where it listens."""

    process: Process
    http: int
    https: int

    def url(self, path, tls=False):
        return f"https://127.0.0.1:{self.https}{path}" if tls else f"http://127.0.0.1:{self.http}{path}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stop()


class Peer:
    """A program that can stand in the middle. A subclass says how."""

    name = ""
    version_arguments = ("--version",)

    def __init__(self, program):
        self.program = program
        self.version = version(program, *self.version_arguments)

    @classmethod
    def look(cls, directories):
        """The peer, or None where it is not installed."""
        program = find(cls.name, *directories)
        return cls(program) if program else None

    def start(self, setting):
        """Starts it, waits until it listens and answers through both listeners."""
        directory = os.path.join(setting.directory, f"{self.name}-{len(os.listdir(setting.directory))}")
        os.makedirs(directory)
        ports = {"http": free_port(), "https": free_port(), "admin": free_port()}
        arguments, environment = self.configure(directory, setting, ports)
        with open(os.path.join(directory, "output"), "wb") as output:
            process = Process(self.name, arguments, PROXY_CORE, directory,
                              output=output if setting.access_log else subprocess.DEVNULL, environment=environment)
        proxy = Proxy(process, ports["http"], ports["https"])
        try:
            wait_for_port(process, proxy.http)
            wait_for_port(process, proxy.https)
            _try(self.name, proxy, setting.certificate)
        except BaseException:
            process.stop()
            raise
        return proxy

    def configure(self, directory, setting, ports):
        """Writes its configuration into `directory`; its command line and environment."""
        raise NotImplementedError


class Balancer(Peer):
    name = "balancer"

    def configure(self, directory, setting, ports):
        log = 'target = "access.log"' if setting.access_log else 'target = "off"'
        endpoints = ", ".join(f'"{address}"' for address in setting.origins)
        tracing = f"""
[tracing]
endpoint = "http://{setting.origins[0]}/sink"
sample = {setting.traced}
""" if setting.traced else ""
        echo = f"""
[upstream.echo]
endpoints = ["{setting.echo}"]
[[route]]
path = "/ws"
upstream = "echo"
""" if setting.echo else ""
        calls = f"""
[upstream.calls]
protocol = "h2"
endpoints = [{", ".join(f'"{address}"' for address in setting.calls)}]
[[route]]
path = "/call"
upstream = "calls"
""" if setting.calls else ""
        _write(directory, "balancer.toml", f"""
[process]
workers = 1
shutdown_grace = "1s"
[log]
format = "json"
[access_log]
{log}
[admin]
address = "127.0.0.1:{ports['admin']}"
[listener.http]
address = "127.0.0.1:{ports['http']}"
[listener.https]
address = "127.0.0.1:{ports['https']}"
[listener.https.tls]
min_version = "1.3"
certificates = [{{ chain = "{setting.certificate.chain}", key = "{setting.certificate.key}" }}]
[upstream.app]
endpoints = [{endpoints}]
[[route]]
path = "/"
upstream = "app"
{echo}{calls}{tracing}""")
        return [self.program, "--config", "balancer.toml"], {}


class Profiled(Balancer):
    name = "profiled"


class Nginx(Peer):
    name = "nginx"
    version_arguments = ("-v",)

    def configure(self, directory, setting, ports):
        log = "access_log access.log combined buffer=64k flush=1s;" if setting.access_log else "access_log off;"
        user = "user root;" if os.geteuid() == 0 else ""
        servers = "".join(f"server {address}; " for address in setting.origins)
        echo = f"""
        location /ws {{
            proxy_pass http://{setting.echo};
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection upgrade;
            proxy_read_timeout 1h;
        }}""" if setting.echo else ""
        upstream_calls = "".join(f"server {address}; " for address in setting.calls)
        calls = f"""
        location /call {{
            grpc_pass grpc://calls;
            grpc_set_header Host $http_host;
            grpc_set_header X-Forwarded-For $remote_addr;
            grpc_set_header X-Forwarded-Proto $scheme;
            grpc_set_header X-Forwarded-Host $http_host;
            grpc_set_header X-Forwarded-Port $server_port;
            grpc_set_header X-Request-Id $request_id;
            grpc_set_header Via "1.1 nginx";
        }}""" if setting.calls else ""
        _write(directory, "nginx.conf", f"""
daemon off;
worker_processes 1;
pid nginx.pid;
error_log stderr crit;
{user}
worker_rlimit_nofile {open_files()};
events {{ worker_connections {open_files() // 2}; multi_accept on; }}
http {{
    {log}
    tcp_nodelay on;
    keepalive_timeout 75s;
    keepalive_requests 1000000000;
    client_body_buffer_size 64k;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    upstream app {{ {servers} keepalive 512; keepalive_requests 1000000000; }}
    {f'upstream calls {{ {upstream_calls} keepalive 512; keepalive_requests 1000000000; }}' if calls else ''}
    server {{
        listen 127.0.0.1:{ports['http']} backlog=4096;
        listen 127.0.0.1:{ports['https']} ssl http2 backlog=4096;
        ssl_certificate {setting.certificate.chain};
        ssl_certificate_key {setting.certificate.key};
        ssl_protocols TLSv1.3;
        ssl_conf_command Ciphersuites {CIPHER_SUITES};
        ssl_prefer_server_ciphers on;
        ssl_session_cache shared:tls:20m;{echo}{calls}
        location / {{
            proxy_pass http://app;
            proxy_http_version 1.1;
            proxy_request_buffering off;
            proxy_buffers 8 16k;
            proxy_buffer_size 16k;
            proxy_max_temp_file_size 0;
            proxy_set_header Connection "";
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $remote_addr;
            proxy_set_header X-Forwarded-Proto $scheme;
            proxy_set_header X-Forwarded-Host $http_host;
            proxy_set_header X-Forwarded-Port $server_port;
            proxy_set_header X-Request-Id $request_id;
            proxy_set_header Via "1.1 nginx";
        }}
    }}
}}
""")
        return [self.program, "-p", directory, "-e", "stderr", "-c", "nginx.conf"], {}


class Haproxy(Peer):
    name = "haproxy"
    version_arguments = ("-v",)

    def configure(self, directory, setting, ports):
        log = "log global\n    option httplog" if setting.access_log else "no log"
        servers = "".join(f"    server app{index} {address} pool-max-conn -1\n"
                          for index, address in enumerate(setting.origins))
        to_echo = "use_backend echo if { path /ws }" if setting.echo else ""
        echo = f"backend echo\n    timeout tunnel 1h\n    server echo {setting.echo}\n" if setting.echo else ""
        to_calls = "use_backend calls if { path /call }" if setting.calls else ""
        calls = "".join(f"    server call{index} {address} proto h2 pool-max-conn -1\n"
                        for index, address in enumerate(setting.calls))
        calls = f"backend calls\n    balance roundrobin\n{calls}" if setting.calls else ""
        _write(directory, "haproxy.cfg", f"""
global
    nbthread 1
    maxconn {open_files() * 2 // 5 - 100}
    log stdout format raw local0
    ssl-default-bind-options ssl-min-ver TLSv1.3
    ssl-default-bind-ciphersuites {CIPHER_SUITES}
    tune.ssl.cachesize 50000
defaults
    mode http
    {log}
    timeout connect 2s
    timeout client 75s
    timeout server 60s
    timeout http-request 10s
    timeout http-keep-alive 75s
    option splice-response
    http-reuse always
frontend all
    bind 127.0.0.1:{ports['http']} backlog 4096
    bind 127.0.0.1:{ports['https']} backlog 4096 ssl crt {setting.certificate.both} alpn h2,http/1.1
    option forwardfor
    http-request set-header X-Forwarded-Proto http if !{{ ssl_fc }}
    http-request set-header X-Forwarded-Proto https if {{ ssl_fc }}
    http-request set-header X-Forwarded-Host %[req.hdr(host)]
    http-request set-header X-Forwarded-Port %[dst_port]
    http-request set-header X-Request-Id %[uuid()]
    http-request set-header Via "1.1 haproxy"
    {to_echo}
    {to_calls}
    default_backend app
backend app
    balance roundrobin
{servers}{echo}{calls}""")
        return [self.program, "-db", "-f", "haproxy.cfg"], {}


class Envoy(Peer):
    name = "envoy"

    def configure(self, directory, setting, ports):
        def all_of(addresses):
            return "".join(
                "{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: %s}}}}, " % address.split(":")[1]
                for address in addresses)

        endpoints = all_of(setting.origins)
        log = """
          access_log:
          - name: file
            typed_config: {"@type": type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog, path: access.log}
""" if setting.access_log else ""

        to_echo = '{match: {path: /ws}, route: {cluster: echo, timeout: 0s}}, ' if setting.echo else ""
        echo = f"""
  - name: echo
    type: STATIC
    connect_timeout: 2s
    load_assignment: {{cluster_name: echo, endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {setting.echo.split(":")[1]}}}}}}}}}]}}]}}
""" if setting.echo else ""

        to_calls = '{match: {path: /call}, route: {cluster: calls, append_x_forwarded_host: true}}, ' if setting.calls else ""
        calls = f"""
  - name: calls
    type: STATIC
    connect_timeout: 2s
    lb_policy: ROUND_ROBIN
    circuit_breakers: {{thresholds: [{{max_connections: 100000, max_pending_requests: 100000, max_requests: 100000}}]}}
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {{http2_protocol_options: {{}}}}
    load_assignment: {{cluster_name: calls, endpoints: [{{lb_endpoints: [{all_of(setting.calls)}]}}]}}
""" if setting.calls else ""

        def listener(name, port, transport):
            return f"""
  - name: {name}
    address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}
    filter_chains:
    - filters:
      - name: http
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: {name}
          codec_type: AUTO
          use_remote_address: true
          generate_request_id: false
          common_http_protocol_options: {{idle_timeout: 75s}}
          upgrade_configs: [{{upgrade_type: websocket}}]
{log}
          route_config:
            virtual_hosts:
            - {{name: all, domains: ["*"], routes: [{to_echo}{to_calls}{{match: {{prefix: "/"}}, route: {{cluster: app, append_x_forwarded_host: true}}}}]}}
          http_filters:
          - name: router
            typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
{transport}"""

        tls = f"""
      transport_socket:
        name: tls
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
          common_tls_context:
            alpn_protocols: [h2, http/1.1]
            tls_params: {{tls_minimum_protocol_version: TLSv1_3}}
            tls_certificates:
            - certificate_chain: {{filename: {setting.certificate.chain}}}
              private_key: {{filename: {setting.certificate.key}}}
"""
        _write(directory, "envoy.yaml", f"""
static_resources:
  listeners:
{listener('http', ports['http'], '')}
{listener('https', ports['https'], tls)}
  clusters:
  - name: app
    type: STATIC
    connect_timeout: 2s
    lb_policy: ROUND_ROBIN
    circuit_breakers: {{thresholds: [{{max_connections: 100000, max_pending_requests: 100000, max_requests: 100000}}]}}
    load_assignment: {{cluster_name: app, endpoints: [{{lb_endpoints: [{endpoints}]}}]}}
{echo}{calls}""")
        return [self.program, "-c", "envoy.yaml", "--concurrency", "1", "--disable-hot-restart", "-l", "error"], {}


class Traefik(Peer):
    name = "traefik"
    version_arguments = ("version",)

    def configure(self, directory, setting, ports):
        servers = "".join(f"{{url: 'http://{address}'}}, " for address in setting.origins)
        to_echo = "ws: {rule: \"Path(`/ws`)\", priority: 100, entryPoints: [http], service: echo}" if setting.echo else ""
        echo = f", echo: {{loadBalancer: {{servers: [{{url: 'http://{setting.echo}'}}]}}}}" if setting.echo else ""
        call_servers = "".join(f"{{url: 'h2c://{address}'}}, " for address in setting.calls)
        to_calls = "calls: {rule: \"Path(`/call`)\", priority: 100, entryPoints: [https], service: calls, tls: {}}" if setting.calls else ""
        calls = f", calls: {{loadBalancer: {{servers: [{call_servers}]}}}}" if setting.calls else ""
        log = "accessLog: {filePath: access.log, bufferingSize: 1000}" if setting.access_log else ""
        _write(directory, "traefik.yaml", f"""
global: {{checkNewVersion: false, sendAnonymousUsage: false}}
log: {{level: ERROR}}
{log}
entryPoints:
  http: {{address: "127.0.0.1:{ports['http']}", transport: {{respondingTimeouts: {{idleTimeout: 75s}}}}}}
  https: {{address: "127.0.0.1:{ports['https']}", transport: {{respondingTimeouts: {{idleTimeout: 75s}}}}}}
providers: {{file: {{filename: dynamic.yaml, watch: false}}}}
serversTransport: {{maxIdleConnsPerHost: 512}}
""")
        _write(directory, "dynamic.yaml", f"""
http:
  routers:
    plain: {{rule: "PathPrefix(`/`)", entryPoints: [http], service: app}}
    tls: {{rule: "PathPrefix(`/`)", entryPoints: [https], service: app, tls: {{}}}}
    {to_echo}
    {to_calls}
  services: {{app: {{loadBalancer: {{servers: [{servers}]}}}}{echo}{calls}}}
tls:
  options: {{default: {{minVersion: VersionTLS13}}}}
  stores: {{default: {{defaultCertificate: {{certFile: "{setting.certificate.chain}", keyFile: "{setting.certificate.key}"}}}}}}
""")
        return [self.program, "--configFile=traefik.yaml"], {"GOMAXPROCS": "1"}


ALL = [Balancer, Nginx, Haproxy, Envoy, Traefik]


def resumes(proxy, certificate):
    """Whether a second handshake with the first one's ticket is a resumption."""
    context = client_context(certificate)
    session = None
    for _ in range(2):
        with socket_to(proxy.https, context, session) as connection:
            _ask(connection)
            resumed, session = connection.session_reused, connection.session
    return resumed


def client_context(certificate):
    """TLS 1.3, trusting the certificate that all proxies show."""
    context = ssl.create_default_context(cafile=certificate.chain)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


def socket_to(port, context=None, session=None):
    """A connection to a proxy; over TLS if there is a context."""
    plain = socket.create_connection(("127.0.0.1", port), 5)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return context.wrap_socket(plain, server_hostname="localhost", session=session) if context else plain


def _ask(connection):
    connection.sendall(b"GET /1k HTTP/1.1\r\nhost: localhost\r\n\r\n")
    reply = http.client.HTTPResponse(connection)
    reply.begin()
    return reply.status, len(reply.read())


def _try(name, proxy, certificate):
    """A proxy that does not forward is not measured. Some listen before they know where to."""
    for port, context in ((proxy.http, None), (proxy.https, client_context(certificate))):
        deadline = time.monotonic() + 10
        while True:
            try:
                with socket_to(port, context) as connection:
                    answer = _ask(connection)
            except (OSError, http.client.HTTPException) as error:
                answer = error
            if answer == (200, 1024):
                break
            if time.monotonic() > deadline:
                raise Refused(f"{name} should answer 200 with 1024 bytes, not {answer}; {proxy.process.complaint()}")
            time.sleep(0.1)


def _write(directory, name, text):
    with open(os.path.join(directory, name), "w", encoding="utf-8") as file:
        file.write(text)
