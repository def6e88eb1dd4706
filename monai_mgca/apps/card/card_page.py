# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""Writes the page about a model: one HTML file that works offline."""

from __future__ import annotations

import os
from typing import Any

from monai_mgca.visualize.page import write_page

__all__ = ["write_report"]

_BODY = """
<style>
.cards { display: flex; flex-wrap: wrap; gap: .8rem; padding: 0; margin: 1.2rem 0; list-style: none; }
.cards li { border: 1px solid #cbd5e0; border-radius: .4rem; padding: .5rem 1rem; min-width: 10rem; }
.cards b { display: block; font-size: 1.5rem; font-variant-numeric: tabular-nums; }
.columns { display: flex; flex-wrap: wrap; gap: 3rem; align-items: flex-start; }
.map figure { width: 20rem; } tr.rule td { border-top: 2px solid #a0aec0; } h3 { font-size: 1rem; }
figcaption q { display: block; color: #4a5568; }
</style>
<p class="note">{{ date }}, monai_mgca {{ version }}. Measured on {{ data.entries | length }}
{% if data.all > data.entries | length %}
of {{ data.all }}
{% endif %}
pairs of image and report of the section <b>{{ section }}</b>{% if data.set %} of the data set
<b>{{ data.set }}</b>{% endif %}. For research only. The page shows radiographs as they are
{%- if with_text %}, and reports{% else %}, no text of a report{% endif %} and no patient's id.</p>
<ul class="cards">
{% for title, recalls, median in retrieval.rows[:2] %}
<li>{{ title }}, R@{{ retrieval.ks[-1] }}<b>{{ "%.3f" | format(recalls[-1]) }}</b>
<span class="note">chance {{ "%.3f" | format(retrieval.rows[2][1][-1]) }}</span></li>
{% endfor %}
{% if zero_shot.rows %}
<li>zero-shot, mean AUROC<b>{{ "%.3f" | format(zero_shot.rows[-1].auroc) }}</b>
<span class="note">chance 0.500</span></li>
{% endif %}
{% for title, score in retrieval.collapse.items() %}
<li>collapse of {{ title }}<b>{{ "%.2f" | format(score) }}</b><span class="note">1 is collapsed</span></li>
{% endfor %}
</ul>

<h2>Model and data</h2>
<div class="columns">
<table>
{% for name, value in settings.items() %}
<tr><td>{{ name }}</td><td>{{ value }}</td></tr>
{% endfor %}
</table>
<table>
<tr><th>section</th><th>pairs</th></tr>
{% for name, count in data.counts.items() %}
<tr><td>{{ name }}</td><td>{{ count }}</td></tr>
{% endfor %}
</table>
</div>

<h2>Training</h2>
{% if curves.picture %}
<p>Each term of the loss should fall for both sections; where validation rises while training falls, the model learns
its reports by heart. {{ curves.note }}</p>
<figure class="wide"><img alt="curves of the training" src="{{ curves.picture }}"></figure>
{% else %}
<p class="note">{{ curves.note }}</p>
{% endif %}

<h2>Retrieval</h2>
<p>R@k is the part of the queries whose right answer is among the first k of all; the median rank is that of the right
answer. Reports that are the same are one answer. Fewer pairs make it easier, so compare with chance.</p>
<table>
<tr><th></th>{% for k in retrieval.ks %}<th>R@{{ k }}</th>{% endfor %}<th>median rank</th></tr>
{% for title, recalls, median in retrieval.rows %}
<tr{% if loop.last %} class="rule"{% endif %}><td>{{ title }}</td>
{% for recall in recalls %}<td>{{ "%.3f" | format(recall) }}</td>{% endfor %}<td>{{ "%g" | format(median) }}</td></tr>
{% endfor %}
</table>
<h3>Collapse</h3>
<table>
{% for title, score in retrieval.collapse.items() %}
<tr><td>{{ title }}</td><td>{{ "%.3f" | format(score) }}</td></tr>
{% endfor %}
</table>
<p>0 means that the embeddings use all their dimensions alike, 1 that they lie on a line or in a point, and the model
says the same of everything. A trained model lies between; near 1, with recall near chance, it has collapsed.</p>

<h2>Zero-shot classification</h2>
{% if zero_shot.rows %}
<p>Each image is compared with texts that tell a finding and texts that deny it; nothing was trained for it. An interval
that holds 0.5 does not tell the model from chance.</p>
<table>
<tr><th>finding</th><th>with</th><th>without</th><th>AUROC</th><th>95 % interval</th><th>chance</th></tr>
{% for row in zero_shot.rows %}
<tr{% if loop.last %} class="rule"{% endif %}><td>{{ row.finding }}</td>
{% for count in (row.present, row.absent) %}<td>{{ "" if count is none else count }}</td>{% endfor %}
{% if row.auroc == row.auroc %}
<td>{{ "%.3f" | format(row.auroc) }}</td><td>{{ "%.3f to %.3f" | format(row.low, row.high) }}</td>
{% else %}
<td colspan="2">needs images with and without it</td>
{% endif %}
<td>0.500</td></tr>
{% endfor %}
</table>
{% else %}
<p class="note">{{ zero_shot.note }}</p>
{% endif %}

<h2>Heat maps</h2>
{% if maps %}
<p>Orange is what makes the image resemble the finding's phrase
{%- if maps[0].drawn %}; the blue outline is where it was annotated{% endif %}. They are the first images of each
finding, not chosen by how they look.
{% if maps[0].drawn %}
The highest place is inside the finding in {{ maps | selectattr("hit") | list | length }} of {{ maps | length }}.
{% endif %}
</p>
{% if maps_note %}
<p class="note">{{ maps_note }}</p>
{% endif %}
<ul class="grid map">
{% for map in maps %}
<li><figure><img alt="heat map of {{ map.finding }}" src="{{ map.picture }}"><figcaption><b>{{ map.finding }}</b>
{%- if map.drawn %}: the highest place is {{ "inside" if map.hit else "outside" }}{% endif %}<br>{{ map.name }}
{% if map.phrase %}
<q>{{ map.phrase }}</q>
{% endif %}
</figcaption></figure></li>
{% endfor %}
</ul>
{% else %}
<p class="note">The datalist has neither boxes nor labels of this section whose words the model knows.</p>
{% endif %}

{% for title, some in pairs.items() %}
<h2>{{ title }}</h2>
<p>The similarity of an image with its own report (-1 to 1), and the report's rank for this image among all
{{ data.entries | length }}: 1 is found first.</p>
<ul class="grid">
{% for pair in some %}
<li><figure><img alt="{{ pair.name }}" src="{{ pair.picture }}">
<figcaption><b>{{ "%.3f" | format(pair.similarity) }}</b>, rank {{ pair.rank }}<br>{{ pair.name }}
{% if pair.report %}
<q>{{ pair.report }}</q>
{% endif %}
</figcaption></figure></li>
{% endfor %}
</ul>
{% endfor %}
"""


def write_report(path: str | os.PathLike, **values: Any) -> None:
    """Write the report page of a pretrained model: one file that works offline.

    Args:
        path: of the HTML file; it appears whole or not at all.
        values: what :mod:`monai_mgca.apps.card.card_command` has measured, by the names of the template.
    """
    write_page(path, "Image-report pretraining: what the model knows", _BODY, **values)
