"""Users, their passwords and sessions, and the tokens of programs."""

from __future__ import annotations

import hashlib
import re
import secrets
import time
from dataclasses import dataclass
from typing import Literal, get_args

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from blemish.errors import BlemishError, short_repr
from blemish.station import audit
from blemish.station.store import Store
from blemish.station.tables import LoginSession, Token, User

Role = Literal["operator", "engineer", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)
"""From the least to the most that one may do; each may do all that those before it may."""
SESSION_SECONDS = 12 * 3600.0
SHORTEST_PASSWORD = 10
FREE_FAILURES = 5
"""Wrong passwords before the first lock-out."""
FIRST_LOCK, LONGEST_LOCK = 30.0, 3600.0
"""Seconds; each further wrong password doubles the time."""
NAME = re.compile(r"[\w.@+-]{1,64}")

_hasher = PasswordHasher()
_nobody = _hasher.hash("nobody")
"""Verified where the user is unknown, so that the time does not say who exists."""


class RefusedError(Exception):
    """A login that failed; `seconds` is how long to wait, 0 where one may try again."""

    def __init__(self, seconds: float = 0.0):
        super().__init__("the name or the password is wrong")
        self.seconds = seconds


@dataclass(frozen=True, slots=True)
class Principal:
    """Who makes a request."""

    name: str
    role: Role
    csrf: str | None = None
    """What requests of a logged-in browser must repeat; None for programs and where no login is needed."""

    def may(self, role: Role) -> bool:
        """Whether this is allowed to do what needs the role."""
        return ROLES.index(self.role) >= ROLES.index(role)


def has_users(store: Store) -> bool:
    """Whether anyone can log in; then everyone has to."""
    with store.reading() as session:
        return bool(session.scalar(select(func.count()).select_from(User)))


def create_user(store: Store, name: str, password: str, role: Role, who: str) -> User:
    """Creates a user; raises BlemishError for a name that is taken or not one, and for a short password."""
    if not NAME.fullmatch(name):
        raise BlemishError(f"name {short_repr(name)}: allowed are 1 to 64 letters, digits and . _ @ + -.")
    digest = hash_password(password)
    with store.writing() as session:
        if session.scalar(select(User).where(User.name == name)):
            raise BlemishError(f"name {name}: is taken. Choose another one.")
        user = User(name=name, password_hash=digest, role=role)
        session.add(user)
        audit.append(session, who, "user created", f"user {name}", None, {"role": role})
    return user


def hash_password(password: str) -> str:
    """The argon2 hash; raises BlemishError for a short password."""
    if len(password) < SHORTEST_PASSWORD:
        raise BlemishError(f"password: has {len(password)} characters; at least {SHORTEST_PASSWORD} are needed.")
    if len(password) > 1024:
        raise BlemishError("password: has more than 1024 characters. Choose a shorter one.")
    return _hasher.hash(password)


def log_in(store: Store, name: str, password: str) -> tuple[str, User]:
    """A new session's token and its user; raises RefusedError.

    After FREE_FAILURES wrong passwords the name is locked, for twice as long with each further one.
    """
    with store.reading() as session:
        user = session.scalar(select(User).where(User.name == name, User.is_active))
    locked = max(0.0, user.locked_until - time.time()) if user else 0.0
    is_right = _verify(user.password_hash if user else _nobody, password) and user is not None
    if locked:
        raise RefusedError(locked)
    with store.writing() as session:
        found = session.get(User, user.id) if user else None
        if found is None or not is_right:
            seconds = _count_failure(found)
            audit.append(session, name[:64], "login failed", f"user {name[:64]}")
        else:
            found.failures, found.locked_until, seconds = 0, 0.0, -1.0
            token = _open_session(session, found)
            audit.append(session, found.name, "logged in", f"user {found.name}")
    if found is None or seconds >= 0:
        raise RefusedError(seconds)
    return token, found


def _verify(digest: str, password: str) -> bool:
    try:
        return _hasher.verify(digest, password)
    except (VerificationError, InvalidHashError):
        return False


def _count_failure(user: User | None) -> float:
    """Counts a wrong password, and gives for how many seconds the user is locked now."""
    if user is None:
        return 0.0
    user.failures += 1
    if user.failures < FREE_FAILURES:
        return 0.0
    seconds = min(LONGEST_LOCK, FIRST_LOCK * 2.0 ** min(user.failures - FREE_FAILURES, 20))
    user.locked_until = time.time() + seconds
    return seconds


def _open_session(session: Session, user: User) -> str:
    token, now = secrets.token_urlsafe(32), time.time()
    for old in session.scalars(select(LoginSession).where(LoginSession.expires_at < now)):
        session.delete(old)
    session.add(
        LoginSession(
            token_sha256=sha256_of(token),
            user_id=user.id,
            csrf=secrets.token_urlsafe(24),
            expires_at=now + SESSION_SECONDS,
        )
    )
    return token


def log_out(store: Store, token: str) -> None:
    """Ends a session."""
    with store.writing() as session:
        if found := session.get(LoginSession, sha256_of(token)):
            session.delete(found)


def end_sessions(session: Session, user: User) -> None:
    """Ends all sessions of a user."""
    for found in session.scalars(select(LoginSession).where(LoginSession.user_id == user.id)):
        session.delete(found)


def of_session(session: Session, token: str) -> Principal | None:
    """Who has this session; None where it has ended."""
    found = session.get(LoginSession, sha256_of(token))
    if found is None or found.expires_at < time.time():
        return None
    user = session.get(User, found.user_id)
    return Principal(user.name, _role(user.role), found.csrf) if user and user.is_active else None


def of_token(session: Session, token: str) -> Principal | None:
    """Which program has this token; None where it is unknown or revoked."""
    found = session.scalar(select(Token).where(Token.token_sha256 == sha256_of(token), Token.revoked_at.is_(None)))
    return Principal(f"token {found.name}", _role(found.role)) if found else None


def create_token(store: Store, name: str, role: Role, who: str) -> tuple[str, Token]:
    """A new token, which is shown this once, and its row; raises BlemishError where the name is taken."""
    if not NAME.fullmatch(name):
        raise BlemishError(f"name {short_repr(name)}: allowed are 1 to 64 letters, digits and . _ @ + -.")
    secret = f"blemish_{secrets.token_urlsafe(32)}"
    with store.writing() as session:
        if session.scalar(select(Token).where(Token.name == name)):
            raise BlemishError(f"name {name}: is taken. Choose another one.")
        token = Token(name=name, token_sha256=sha256_of(secret), role=role, created_by=who)
        session.add(token)
        audit.append(session, who, "token created", f"token {name}", None, {"role": role})
    return secret, token


def sha256_of(token: str) -> str:
    """By what a token is stored: whoever reads the database cannot use it."""
    return hashlib.sha256(token.encode()).hexdigest()


def _role(name: str) -> Role:
    return next(role for role in ROLES if role == name)
