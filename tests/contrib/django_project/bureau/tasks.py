from pgtasks import Celery

app = Celery("bureau")
app.config_from_object("django.conf:settings", namespace="CELERY")


@app.task
def stamp(*args, **kwargs):
    return args, kwargs
