from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stead.host import redact, redact_environment, redaction
from stead.host.redaction import HIDDEN

SECRET = "Zq8x-Wm3_pL0"
OWN = "stead_q2rbhmqy_gdvn2lccjyvkoymtjfudkkwqjf6245volkaiwkv5xb"
SHAPES = [
    ["mysql", f"-p{SECRET}", "-u", "root"],
    ["sshpass", "-p", SECRET, "ssh", "host"],
    ["tool", "--password", SECRET],
    ["tool", f"--password={SECRET}"],
    ["tool", "--db-password", SECRET],
    ["tool", "-token", SECRET],
    ["tool", f"--api-key={SECRET}"],
    ["tool", f"--apikey={SECRET}"],
    ["tool", "--secret-access-key", SECRET],
    ["tool", "--client-secret", SECRET],
    ["tool", "--pass", SECRET],
    ["env", f"DB_PASSWORD={SECRET}", "tool"],
    ["env", f"AWS_SECRET_ACCESS_KEY={SECRET}", "tool"],
    ["env", f"GITHUB_TOKEN={SECRET}"],
    ["env", f"PGPASSWORD={SECRET}"],
    ["curl", "-u", f"me:{SECRET}", "https://x"],
    ["curl", "--user", f"me:{SECRET}"],
    ["curl", "-H", f"Authorization: Bearer {SECRET}"],
    ["curl", "-H", f"X-Api-Key: {SECRET}"],
    ["curl", "-H", f"Cookie: sid={SECRET}; other={SECRET}"],
    ["psql", f"postgresql://me:{SECRET}@db:5432/x"],
    ["git", "clone", f"https://{SECRET[:4]}:{SECRET}@example.org/r.git"],
    ["curl", f"https://x.org/a?token={SECRET}&page=2"],
    ["curl", f"https://x.org/a?page=2&access_token={SECRET}"],
    ["sh", "-c", f"curl --password {SECRET} -o out https://x"],
    ["sh", "-c", f"export API_TOKEN={SECRET}; run"],
    ["sh", "-c", f"mysql --password='{SECRET} with blanks'"],
    ["java", f"-Ddb.password={SECRET}"],
    ["tool", f'{{"user": "me", "password": "{SECRET}"}}'],
    ["tool", f"password: {SECRET}"],
    ["sudo", "mysql", f"-p{SECRET}", "db"],
    ["sh", "-c", f"mysql -u root -p{SECRET} db"],
    ["docker", "exec", "db", "mysqldump", f"-p{SECRET}"],
    ["sh", "-c", f"sshpass -p {SECRET} ssh host"],
    ["docker", "login", "-u", "me", "-p", SECRET],
    ["redis-cli", "-h", "db", "-a", SECRET],
    ["ldapsearch", "-w", SECRET, "-x"],
    ["snmpget", "-A", SECRET, "-X", SECRET, "host"],
    ["unzip", "-P", SECRET, "x.zip"],
    ["smbclient", "-U", f"me%{SECRET}", "//host/share"],
    ["curl", "-b", f"sid={SECRET}", "https://x"],
    ["curl", f"https://me:a/{SECRET}@host/x"],
    ["git", "clone", f"https://{SECRET * 2}@example.org/r.git"],
    ["curl", f"https://x.org/blob?sig={SECRET}&se=2026"],
    ["curl", f"https://x.org/o?X-Amz-Signature={SECRET}"],
    ["curl", f"https://hooks.slack.com/services/T0/B0/{SECRET}"],
    ["tool", f"DefaultEndpointsProtocol=https;AccountKey={SECRET};"],
    ["env", f"DB_PW={SECRET}", "tool"],
    ["tool", "--creds", SECRET],
]


@pytest.mark.parametrize("argv", SHAPES, ids=lambda argv: " ".join(argv).replace(SECRET, "…"))
def test_secrets_go_and_the_program_stays(argv: list[str]) -> None:
    shown = redact(argv)
    assert SECRET not in shown
    assert HIDDEN in shown
    assert shown.startswith(argv[0])


@pytest.mark.parametrize(
    "token",
    [
        "ghp_0123456789abcdefghij",
        "glpat-0123456789abcdef",
        "xoxb-0123456789-abcdef",
        "sk_test_0123456789abcdef",
        "AKIA0123456789ABCDEF",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
        "-----BEGIN PRIVATE KEY-----\nMIIE\n",
    ],
)
def test_credentials_are_known_by_their_shape(token: str) -> None:
    assert token not in redact(["tool", token])
    assert token not in redact(["tool", f"--value={token}"])


@pytest.mark.parametrize(
    "argv",
    [
        ["sh", "-c", "while :; do :; done"],
        ["python3", "-m", "http.server", "8000"],
        ["ls", "--color=auto", "-p", "/var/log"],
        ["mkdir", "-p", "/srv/data"],
        ["nginx:", "worker", "process"],
        ["tool", "--bypass=1", "--compass", "north", "--keyboard=de", "--monkey", "x"],
        ["curl", "https://example.org:8443/path?page=2"],
        ["ssh", "-p", "22", "host"],
        ["sudo", "-u", "postgres", "psql"],
        ["docker", "run", "-p", "3306:3306", "mysql"],
        ["sh", "-c", "ssh -p 22 host; unzip -o x.zip"],
        ["curl", "http://host:8080/a@b"],
        ["mysql", "--protocol=tcp", "-P", "3306"],
    ],
)
def test_ordinary_commands_stay_as_they_are(argv: list[str]) -> None:
    assert redact(argv) == " ".join(argv)


def test_what_stands_around_a_secret_stays() -> None:
    assert (
        redact(["curl", "-u", "me:pw1234", "https://x?token=abc&page=2"])
        == f"curl -u me:{HIDDEN} https://x?token={HIDDEN}&page=2"
    )
    assert redact(["t", "--token", "a", "--port", "80"]) == f"t --token {HIDDEN} --port 80"
    assert redact([]) == ""


def test_an_environment_keeps_its_names() -> None:
    environment = {"HOME": "/root", "DB_PASSWORD": "x", "API_KEY": "y", "URL": "redis://:pw@h", "EMPTY_TOKEN": "", "PATH": "/bin"}
    assert redact_environment(environment) == {
        "HOME": "/root",
        "DB_PASSWORD": HIDDEN,
        "API_KEY": HIDDEN,
        "URL": f"redis://:{HIDDEN}@h",
        "EMPTY_TOKEN": "",
        "PATH": "/bin",
    }


secrets = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="\"'&;,["), min_size=10, max_size=30)
names = st.sampled_from(
    ["password", "PASSWD", "secret", "api-key", "api_key", "auth-token", "private-key", "client_secret", "DB_PASS"]
)


@given(names, secrets, st.booleans(), st.lists(st.sampled_from(["run", "-v", "--port=80", "x.conf"]), max_size=3))
def test_no_named_secret_survives(name: str, secret: str, joined: bool, rest: list[str]) -> None:
    pair = [f"--{name}={secret}"] if joined else [f"--{name}", secret]
    shown = redact(["tool", *rest, *pair, *rest])
    assert secret not in shown


@given(st.lists(st.text(max_size=40), max_size=6))
def test_any_command_line_can_be_shown(argv: list[str]) -> None:
    redact(argv)


PIECES = [
    "pass",
    "PWD",
    "tok",
    "token",
    "key",
    "-u",
    "--user",
    " ",
    "=",
    ":",
    "://",
    "@",
    "me",
    "x-api-key",
    "Bearer",
    "ghp_",
    "eyJ",
    ".",
    "a",
    "0123456789abcdef",
    "AKIA",
    "-----BEGIN ",
    '"',
    "&",
    "?",
]


@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
def test_the_quick_look_never_misses_what_a_rule_would_hide(text: str) -> None:
    assert redaction._redact_text(text) == redaction._apply_rules(text)


@pytest.mark.parametrize("argv", [["xdg-open", f"http://127.0.0.1:8000/#{OWN}"], ["tool", OWN]])
def test_the_token_of_the_page_is_hidden(argv: list[str]) -> None:
    assert OWN not in redact(argv) and "gdvn2" not in redact(argv)


def test_what_is_called_like_stead_is_no_token() -> None:
    assert (
        redact(["stead_agent_of_the_house", "--state", "/var/lib/stead_one"])
        == "stead_agent_of_the_house --state /var/lib/stead_one"
    )
