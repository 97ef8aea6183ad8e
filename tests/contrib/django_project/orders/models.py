from django.core.checks import Error, register
from django.db import models


class Order(models.Model):
    state = models.CharField(max_length=20, default="new")
    backend = models.IntegerField(null=True)


@register()
def a_check_that_fails(app_configs, **kwargs):
    return [Error("The shop is broken.", id="orders.E001")]
