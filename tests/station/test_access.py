"""Who may do what: roles on every route, logins, tokens, cross-site requests, the audit log."""

from __future__ import annotations

import time

import pytest
from fastapi.testclient import TestClient
from station_help import BASE, picture, routes

from blemish.station import accounts, audit
from blemish.station.app import create_app
from blemish.station.routes.system import PUBLIC
from blemish.station.station import Settings
from blemish.station.tables import AuditEntry, LoginSession, Token, User
from blemish.station.workspace import open_workspace

PASSWORD = "correct horse"
ROLES = ("operator", "engineer", "admin")
ADMIN_ONLY = "/v1/admin"


def role_of(route):
    return next((role for one in route.dependant.dependencies if (role := getattr(one.call, "role", None))), None)


@pytest.fixture
def closed(tmp_path):
    """An application with a user and a token of each role."""
    workspace = open_workspace(tmp_path / "closed")
    tokens = {}
    for role in ROLES:
        accounts.create_user(workspace.store, role, PASSWORD, role, "test")
        tokens[role], _ = accounts.create_token(workspace.store, f"of-{role}", role, "test")
    with TestClient(create_app(workspace, Settings(keep_free=0)), base_url=BASE) as client:
        client.tokens = tokens
        yield client


def test_every_route_names_its_role(closed):
    nameless = [route.path for route in routes(closed.app) if role_of(route) is None and route.path not in PUBLIC]
    assert nameless == []
    assert len(routes(closed.app)) > 50


def test_every_route_with_every_role(closed):
    """A role that is too low is refused; a high enough one gets past the door, whatever then comes."""
    wrong = []
    for route in routes(closed.app):
        needed = role_of(route)
        path = route.path.replace("{name}", "x")
        for parameter in route.param_convertors:
            path = path.replace(f"{{{parameter}}}", "99")
        if needed is None or path == "/v1/events":
            continue
        for method in sorted(route.methods - {"HEAD"}):
            if closed.request(method, path, follow_redirects=False).status_code not in (401, 303):
                wrong.append(("nobody", method, path))
            for role in ROLES:
                headers = {"authorization": f"Bearer {closed.tokens[role]}"}
                code = closed.request(method, path, headers=headers, follow_redirects=False).status_code
                is_allowed = ROLES.index(role) >= ROLES.index(needed)
                if (code == 403) == is_allowed or code >= 500:
                    wrong.append((role, method, path, code))
    assert wrong == []


def test_what_each_role_is_for(closed):
    needed = {(method, route.path): role_of(route) for route in routes(closed.app) for method in route.methods}
    assert needed["POST", "/v1/products/{product_id}/inspect"] == "operator"
    assert needed["POST", "/v1/inspections/{inspection_id}/review"] == "operator"
    for path in ("/v1/products", "/v1/products/{product_id}/teach", "/v1/models/{model_id}/decisions"):
        assert needed["POST", path] == "engineer"
    assert {role for (_, path), role in needed.items() if path.startswith(ADMIN_ONLY)} == {"admin"}
    changes = {(method, path) for (method, path), role in needed.items() if method not in ("GET", "HEAD") and not role}
    assert changes == {("POST", "/v1/login"), ("POST", "/v1/logout")}


def log_in(client, name="engineer", password=PASSWORD):
    return client.post("/v1/login", json={"name": name, "password": password})


def csrf_of(client):
    with client.app.state.station.store.reading() as session:
        return session.query(LoginSession).one().csrf


def test_a_login_gives_a_cookie_that_scripts_cannot_read(closed):
    assert closed.get("/v1/products").status_code == 401
    answer = log_in(closed)
    assert answer.status_code == 204
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert closed.get("/v1/products").status_code == 200
    assert closed.post("/v1/logout").status_code == 204
    assert closed.get("/v1/products").status_code == 401


def test_a_browser_has_to_repeat_its_csrf_token(closed):
    log_in(closed)
    assert closed.post("/v1/products", json={"name": "gear"}).status_code == 403
    headers = {"x-csrf-token": csrf_of(closed)}
    assert closed.post("/v1/products", json={"name": "gear"}, headers=headers).status_code == 201


@pytest.mark.parametrize(
    "headers", [{"origin": "http://evil.example"}, {"sec-fetch-site": "cross-site"}, {"origin": "null"}]
)
def test_another_website_is_refused_where_no_login_is_needed(empty, headers):
    assert empty.post("/v1/products", json={"name": "gear"}, headers=headers).status_code == 403
    assert empty.post("/v1/products", json={"name": "gear"}, headers={"origin": BASE}).status_code == 201


def test_another_name_of_this_machine_is_refused_where_no_login_is_needed(empty):
    assert empty.get("/v1/products", headers={"host": "rebound.example"}).status_code == 421


def test_repeated_wrong_passwords_lock_the_name(closed, monkeypatch):
    codes = [log_in(closed, password="wrong").status_code for _ in range(6)]
    assert codes == [401, 401, 401, 401, 429, 429]
    answer = log_in(closed)
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) > 20
    assert log_in(closed, "operator").status_code == 204
    later = time.time() + 4000
    monkeypatch.setattr(accounts.time, "time", lambda: later)
    assert log_in(closed).status_code == 204


def test_nobody_learns_who_exists(closed):
    known, unknown = (log_in(closed, name, "wrong").json() for name in ("engineer", "nobody"))
    assert known == unknown


def test_passwords_and_tokens_are_stored_as_hashes(closed):
    with closed.app.state.station.store.reading() as session:
        assert all(user.password_hash.startswith("$argon2id$") for user in session.query(User))
        stored = {token.token_sha256 for token in session.query(Token)}
    assert stored.isdisjoint(closed.tokens.values())


def test_a_revoked_token_and_a_user_who_left_are_refused(closed):
    admin = {"authorization": f"Bearer {closed.tokens['admin']}"}
    log_in(closed, "operator")
    assert closed.get("/v1/products").status_code == 200
    users = {one["name"]: one["id"] for one in closed.get("/v1/admin/users", headers=admin).json()}
    path = f"/v1/admin/users/{users['operator']}"
    assert closed.patch(path, json={"is_active": False}, headers=admin).status_code == 200
    assert closed.get("/v1/products").status_code == 401
    assert log_in(closed, "operator").status_code == 401
    last = closed.patch(f"/v1/admin/users/{users['admin']}", json={"role": "operator"}, headers=admin)
    assert last.status_code == 409
    tokens = {one["name"]: one["id"] for one in closed.get("/v1/admin/tokens", headers=admin).json()}
    engineer = {"authorization": f"Bearer {closed.tokens['engineer']}"}
    assert closed.get("/v1/products", headers=engineer).status_code == 200
    assert closed.delete(f"/v1/admin/tokens/{tokens['of-engineer']}", headers=admin).status_code == 204
    assert closed.get("/v1/products", headers=engineer).status_code == 401


def test_the_first_user_is_an_admin_and_closes_the_station(empty):
    new = {"name": "ann", "password": PASSWORD, "role": "operator"}
    assert empty.post("/v1/admin/users", json=new).status_code == 409
    assert empty.post("/v1/admin/users", json=new | {"role": "admin"}).status_code == 201
    assert empty.get("/v1/products").status_code == 401


def test_every_answer_forbids_other_hosts(client):
    for path in ("/v1/products", "/healthz", "/nowhere"):
        policy = client.get(path).headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy


def test_the_audit_log_says_who_changed_what(client):
    client.post("/v1/models/1/decisions", json={"review_threshold": 1, "defect_threshold": 2})
    last = client.get("/v1/admin/audit?limit=1").json()[0]
    assert (last["who"], last["what"], last["subject"]) == ("local", "decision applied", "model 1")
    assert (last["old"]["number"], last["new"]["number"], last["new"]["defect_threshold"]) == (1, 2, 2.0)
    assert client.get("/v1/admin/audit/check").json()["is_whole"]
    lines = client.get("/v1/admin/audit/export").text.splitlines()
    assert len(lines) == last["number"]


@pytest.mark.parametrize("change", ["who", "new", "at", "remove"])
def test_a_changed_line_of_the_audit_log_is_noticed(client, change):
    for number in range(3):
        client.post("/v1/models/1/decisions", json={"review_threshold": number, "defect_threshold": 9})
    store = client.app.state.station.store
    with store.writing() as session:
        entry = session.get_one(AuditEntry, 4)
        if change == "remove":
            session.delete(entry)
        else:
            setattr(entry, change, 5.0 if change == "at" else "other")
    with store.reading() as session:
        assert audit.first_changed(session) == 4
    assert client.get("/v1/admin/audit/check").json()["first_changed"] == 4


def test_folders_of_the_machine_are_read_only_where_allowed(tmp_path):
    (tmp_path / "allowed").mkdir()
    (tmp_path / "allowed" / "a.png").write_bytes(picture(1))
    (tmp_path / "b.png").write_bytes(picture(2))
    workspace = open_workspace(tmp_path / "workspace")
    secret, _ = accounts.create_token(workspace.store, "line", "engineer", "test")
    accounts.create_user(workspace.store, "ann", PASSWORD, "admin", "test")
    settings = Settings(keep_free=0, folders=(tmp_path / "allowed",))
    with TestClient(create_app(workspace, settings), base_url=BASE) as client:
        client.headers["authorization"] = f"Bearer {secret}"
        client.post("/v1/products", json={"name": "gear"})
        address = "/v1/products/1/images/from-folder"
        assert client.post(address, json={"path": str(tmp_path)}).status_code == 403
        climbing = str(tmp_path / "allowed" / "..")
        assert client.post(address, json={"path": climbing}).status_code == 403
        assert client.post(address, json={"path": str(tmp_path / "allowed")}).json()["added"] == 1
