"""The API's peer: the same five operations in Django REST framework, as its documentation would have them.

`python django_peer.py seed` makes the tables and their rows; gunicorn serves `django_peer:application`.
"""

import base64
import datetime
import hashlib
import hmac
import json
import os
import sys
import time
import urllib.parse
import uuid

import django
import jwt
import redis
from django.conf import settings

url = urllib.parse.urlsplit(os.environ["PEER_DATABASE"])
query = urllib.parse.parse_qs(url.query)
settings.configure(
    DEBUG=False,
    ALLOWED_HOSTS=["*"],
    SECRET_KEY="of no use here",
    ROOT_URLCONF=__name__,
    USE_TZ=True,
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "rest_framework"],
    MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": url.path.lstrip("/"),
            "USER": urllib.parse.unquote(url.username or "postgres"),
            "PASSWORD": urllib.parse.unquote(url.password or ""),
            "HOST": query.get("host", [url.hostname or "127.0.0.1"])[0],
            "PORT": str(url.port or 5432),
            "CONN_MAX_AGE": None,
        }
    },
    REST_FRAMEWORK={
        "DEFAULT_AUTHENTICATION_CLASSES": [],
        "DEFAULT_PERMISSION_CLASSES": [],
        "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
        "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
        "UNAUTHENTICATED_USER": None,
        "PAGE_SIZE": 20,
    },
)
django.setup()

from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.db import connection, models  # noqa: E402
from django.shortcuts import get_object_or_404  # noqa: E402
from django.urls import path  # noqa: E402
from django.utils import timezone  # noqa: E402
from rest_framework import exceptions, pagination, serializers  # noqa: E402
from rest_framework.authentication import BaseAuthentication  # noqa: E402
from rest_framework.generics import ListAPIView  # noqa: E402
from rest_framework.response import Response  # noqa: E402
from rest_framework.views import APIView  # noqa: E402

SECRET = os.environ["PEER_SECRET"]
WEBHOOK_SECRET = os.environ["PEER_WEBHOOK_SECRET"].encode()
queue = redis.Redis.from_url(os.environ["PEER_REDIS"], db=2)


class Session(models.Model):
    tenant = models.CharField(max_length=63)
    title = models.CharField(max_length=200)
    status = models.CharField(max_length=20)
    host_id = models.CharField(max_length=100)
    room = models.CharField(max_length=200)
    course_id = models.CharField(max_length=100, null=True)
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField()

    class Meta:
        app_label = "peer"
        indexes = [models.Index(fields=["tenant", "starts_at", "id"])]


class Participant(models.Model):
    session = models.ForeignKey(Session, on_delete=models.CASCADE)
    person_id = models.CharField(max_length=100)
    name = models.CharField(max_length=200)
    connection_key = models.CharField(max_length=64)
    joined_at = models.DateTimeField()
    last_seen_at = models.DateTimeField()
    left_at = models.DateTimeField(null=True)

    class Meta:
        app_label = "peer"
        indexes = [models.Index(fields=["session", "person_id"])]


class Attendance(models.Model):
    session = models.ForeignKey(Session, on_delete=models.CASCADE)
    person_id = models.CharField(max_length=100)
    name = models.CharField(max_length=200)
    email = models.CharField(max_length=200)
    status = models.CharField(max_length=20)
    present_seconds = models.IntegerField()
    percent = models.FloatField()
    first_join_at = models.DateTimeField()
    last_leave_at = models.DateTimeField()
    intervals = models.JSONField()

    class Meta:
        app_label = "peer"


class WebhookEvent(models.Model):
    event_id = models.CharField(max_length=200, unique=True)
    body = models.JSONField()
    received_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        app_label = "peer"


class Caller:
    is_authenticated = True

    def __init__(self, claims):
        self.id, self.tenant, self.roles, self.name = claims["sub"], claims["tenant"], claims["roles"], claims["name"]


class TokenAuthentication(BaseAuthentication):
    def authenticate(self, request):
        header = request.headers.get("Authorization", "")
        try:
            claims = jwt.decode(header.removeprefix("Bearer "), SECRET, algorithms=["HS256"])
        except jwt.InvalidTokenError as error:
            raise exceptions.AuthenticationFailed(str(error)) from error
        return Caller(claims), None

    def authenticate_header(self, request):
        return "Bearer"


class ByToken(APIView):
    authentication_classes = [TokenAuthentication]


class Heartbeat(ByToken):
    def post(self, request, id):
        seen = Participant.objects.filter(
            session_id=id, person_id=request.user.id, left_at=None, session__status="live"
        ).update(last_seen_at=timezone.now())
        if not seen:
            raise exceptions.NotFound()
        return Response({"next_in": 30})


class Join(ByToken):
    def post(self, request, id):
        session = get_object_or_404(Session, id=id, tenant=request.user.tenant)
        if session.status != "live":
            raise exceptions.ValidationError("not open")
        now = timezone.now()
        key = str(uuid.uuid4())
        Participant.objects.create(
            session=session, person_id=request.user.id, name=request.user.name, connection_key=key, joined_at=now, last_seen_at=now
        )
        claims = {
            "iss": "lms",
            "aud": "jitsi",
            "sub": "*",
            "room": session.room,
            "exp": int(time.time()) + 3600,
            "context": {"user": {"id": request.user.id, "name": request.user.name, "moderator": False}},
        }
        token = jwt.encode(claims, SECRET, algorithm="HS256")
        return Response({"join_url": f"https://meet.example.org/{session.room}?jwt={token}", "token": token, "connection_id": key})


class SessionSerializer(serializers.ModelSerializer):
    class Meta:
        model = Session
        fields = ["id", "title", "status", "host_id", "room", "course_id", "starts_at", "ends_at"]


class ByStart(pagination.CursorPagination):
    page_size = 20
    ordering = ("starts_at", "id")


class Sessions(ListAPIView):
    authentication_classes = [TokenAuthentication]
    serializer_class = SessionSerializer
    pagination_class = ByStart

    def get_queryset(self):
        return Session.objects.filter(tenant="large")


class AttendanceSerializer(serializers.ModelSerializer):
    class Meta:
        model = Attendance
        exclude = ["id", "session"]


class Report(ByToken):
    def get(self, request, id):
        session = get_object_or_404(Session, id=id, tenant=request.user.tenant)
        rows = Attendance.objects.filter(session=session).order_by("name")
        return Response({"session_id": session.id, "results": AttendanceSerializer(rows, many=True).data})


class Webhook(APIView):
    def post(self, request):
        body = request.body
        signed = b".".join([request.headers["webhook-id"].encode(), request.headers["webhook-timestamp"].encode(), body])
        expected = base64.b64encode(hmac.new(WEBHOOK_SECRET, signed, hashlib.sha256).digest()).decode()
        if not hmac.compare_digest("v1," + expected, request.headers["webhook-signature"]):
            raise exceptions.AuthenticationFailed("signature")
        event = json.loads(body)
        stored, created = WebhookEvent.objects.get_or_create(event_id=event["id"], defaults={"body": event})
        if created:
            queue.lpush("webhooks", json.dumps({"task": "process_webhook", "id": stored.id}))
        return Response({"status": "stored" if created else "duplicate"})


urlpatterns = [
    path("sessions/<int:id>/heartbeat/", Heartbeat.as_view()),
    path("sessions/<int:id>/join/", Join.as_view()),
    path("sessions/<int:id>/attendance/", Report.as_view()),
    path("sessions/", Sessions.as_view()),
    path("webhooks/", Webhook.as_view()),
]

application = get_wsgi_application()


def seed():
    now = timezone.now()
    hour = datetime.timedelta(hours=1)
    with connection.schema_editor() as editor:
        for model in (Session, Participant, Attendance, WebhookEvent):
            editor.create_model(model)
    live = [
        Session(tenant="school", title=f"Class {n}", status="live", host_id="teacher", room=f"class-{n}", starts_at=now, ends_at=now + hour)
        for n in range(50)
    ]
    Session.objects.bulk_create(live)
    many = int(os.environ["PEER_SESSIONS"])
    Session.objects.bulk_create(
        (
            Session(
                tenant="large",
                title=f"Session {n}",
                status="scheduled",
                host_id=f"teacher-{n % 500}",
                room=f"s-{n}",
                starts_at=now + n * datetime.timedelta(minutes=5),
                ends_at=now + n * datetime.timedelta(minutes=5) + hour,
            )
            for n in range(many)
        ),
        batch_size=2000,
    )
    Participant.objects.bulk_create(
        (
            Participant(session=live[n % 50], person_id=f"p{n}", name=f"Person {n}", connection_key=str(uuid.uuid4()), joined_at=now, last_seen_at=now)
            for n in range(5000)
        ),
        batch_size=2000,
    )
    Attendance.objects.bulk_create(
        (
            Attendance(
                session=live[0],
                person_id=f"p{n}",
                name=f"Person {n}",
                email=f"p{n}@school.example",
                status="present",
                present_seconds=4000,
                percent=80,
                first_join_at=now,
                last_leave_at=now,
                intervals=[{"start": now.isoformat(), "end": now.isoformat(), "sources": ["heartbeat", "webhook"]}],
            )
            for n in range(5000)
        ),
        batch_size=1000,
    )
    with connection.cursor() as cursor:
        cursor.execute("analyze")


if __name__ == "__main__" and sys.argv[1:] == ["seed"]:
    seed()
