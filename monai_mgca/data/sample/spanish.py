# SPDX-FileCopyrightText: Copyright (c) MONAI MGCA contributors
# SPDX-License-Identifier: Apache-2.0

"""The wording of the sample's reports in Spanish: the tables of ``english``, wording by wording.

Adjectives stand in the masculine; a slot whose name ends with ``_a`` takes their feminine form.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from .case import PATTERNS, SIDES, SIZES, ZONES

__all__ = ["fill"]

TERMS = {
    "right": "derecho",
    "left": "izquierdo",
    "upper": "superior",
    "mid": "medio",
    "lower": "inferior",
    "small": "pequeño",
    "moderate": "moderado",
    "large": "grande",
    "patchy": "parcheado",
    "confluent": "confluente",
    "hazy": "tenue",
    "endotracheal tube": "tubo endotraqueal",
    "enteric tube": "sonda nasogástrica",
    "central line": "catéter central",
    "pacemaker": "marcapasos",
    "chest tube": "tubo torácico",
}
PHRASE = {
    "opacity": "opacidad {form_a} {size_a} en la zona {zone_a} {side_a}",
    "effusion": "derrame pleural {side} {size}",
    "pneumothorax": "neumotórax {side} {size}",
    "cardiomegaly": "cardiomegalia {degree}",
    "nodule": "nódulo {size} en la zona {zone_a} {side_a}",
    "device": "{form} {side}",
}
SIZE = {
    "small": ("pequeño", "mínimo", "leve"),
    "moderate": ("moderado", "mediano", "apreciable"),
    "large": ("extenso", "importante", "amplio"),
}
NODULE_SIZE = {
    "small": ("pequeño", "diminuto"),
    "moderate": ("mediano", "de tamaño moderado"),
    "large": ("grande", "voluminoso"),
}
DEGREE = {
    "small": ("leve", "ligera", "incipiente"),
    "moderate": ("moderada",),
    "large": ("marcada", "severa", "masiva"),
}
ENLARGED = {"small": "levemente", "moderate": "moderadamente", "large": "severamente"}
ZONE = {
    "upper": ("superior", "apical y superior"),
    "mid": ("medio", "intermedio", "perihiliar medio"),
    "lower": ("inferior", "basal"),
}
FLUID = {
    "small": ("con borramiento del ángulo costofrénico {side}", "visible solo en el ángulo costofrénico {side}"),
    "moderate": ("que oculta el hemidiafragma {side}", "que ocupa la base {side_a}"),
    "large": ("que ocupa cerca de la mitad del hemitórax {side}", "que alcanza el hilio {side}"),
}
AIR = {
    "small": ("en el vértice {side}", "a lo largo de la pared torácica superior {side_a}"),
    "moderate": ("con colapso parcial del pulmón {side}", "a lo largo de la pared torácica lateral {side_a}"),
    "large": ("con colapso casi completo del pulmón {side}", "con el pulmón {side} retraído hacia su hilio"),
}
PRESENT = {
    "opacity": (
        (
            "{size_a} opacidad {form_a} en el campo pulmonar {zone} {side}",
            "Consolidación {form_a} en la zona {zone_a} {side_a}, {size_a}",
        ),
        (
            "Se observa una {size_a} opacidad {form_a} en la zona {zone_a} {side_a}, sugestiva de neumonía",
            "{size_a} zona de opacidad alveolar {form_a} que se proyecta sobre el campo pulmonar {zone} {side}",
            "En la zona {zone_a} {side_a} hay una {size_a} consolidación {form_a}",
        ),
    ),
    "effusion": (
        ("{size} derrame pleural {side}", "Derrame pleural del lado {side}, {size}"),
        (
            "Se observa un {size} derrame pleural {side} {extent}",
            "{size_a} lámina de líquido pleural en el lado {side}, {extent}",
            "Hay un {size} derrame en el lado {side}, {extent}",
        ),
    ),
    "pneumothorax": (
        ("{size} neumotórax {side}", "Neumotórax del lado {side}, {size}"),
        (
            "Se observa un {size} neumotórax {side} {extent}",
            "Línea pleural visible en el lado {side}, compatible con un {size} neumotórax {extent}",
            "Hay una {size_a} cámara de aire pleural {extent}",
        ),
    ),
    "cardiomegaly": (
        ("Cardiomegalia {degree}", "Corazón {enlarged} agrandado"),
        (
            "El corazón está {enlarged} aumentado de tamaño",
            "Ampliación {degree} de la silueta cardíaca",
            "La silueta cardíaca está {enlarged} agrandada, en relación con cardiomegalia {degree}",
        ),
    ),
    "nodule": (
        (
            "Nódulo de {mm} mm en el campo pulmonar {zone} {side}",
            "Nódulo pulmonar {size} en la zona {zone_a} {side_a}, de {mm} mm",
        ),
        (
            "Nódulo redondeado {size} que mide {mm} mm y se proyecta sobre la zona {zone_a} {side_a}",
            "Se observa un nódulo {size} bien definido en el campo pulmonar {zone} {side}, de {mm} mm de diámetro",
            "Foco nodular {size} de {mm} mm en la zona {zone_a} {side_a}, se recomienda control",
        ),
    ),
}
DEVICE = {
    "endotracheal tube": (
        ("Tubo endotraqueal normoposicionado", "Paciente intubado"),
        ("El tubo endotraqueal termina por encima de la carina", "Extremo del tubo endotraqueal en la tráquea media"),
    ),
    "enteric tube": (
        ("Sonda enteral en el estómago", "Sonda de alimentación por debajo del diafragma"),
        (
            "Una sonda enteral pasa por debajo del diafragma con su extremo en el estómago",
            "La sonda nasogástrica termina en el estómago",
        ),
    ),
    "central line": (
        ("Vía venosa central {side_a} normoposicionada", "Catéter yugular interno {side}"),
        ("Una vía central {side_a} termina en la vena cava superior", "Catéter yugular {side} que termina en la cava"),
    ),
    "pacemaker": (
        ("Marcapasos del lado {side}", "Marcapasos en la pared torácica {side_a}"),
        (
            "Un marcapasos en la pared torácica {side_a} tiene su electrodo en el ventrículo derecho",
            "Marcapasos pectoral {side} con electrodo íntegro",
        ),
    ),
    "chest tube": (
        ("Tubo torácico {side} normoposicionado", "Drenaje pleural {side}"),
        (
            "Un tubo torácico {side} se proyecta sobre el campo pulmonar superior {side}",
            "Drenaje pleural del lado {side} dirigido hacia el vértice",
        ),
    ),
}
ABSENT = {
    "device": ("Sin catéteres ni tubos", "No se observan dispositivos de soporte"),
    "opacity": ("Sin consolidación focal", "No hay opacidad alveolar", "Sin evidencia de neumonía"),
    "nodule": ("Sin nódulos pulmonares", "No se observan nódulos ni masas sospechosas"),
    "effusion": ("Sin derrame pleural", "Los ángulos costofrénicos están libres", "No hay líquido pleural"),
    "pneumothorax": ("Sin neumotórax", "No se observa neumotórax", "Sin signos de neumotórax"),
    "cardiomegaly": ("Corazón de tamaño normal", "La silueta cardíaca es de tamaño normal", "Sin cardiomegalia"),
}
NORMAL = (
    "Sin proceso cardiopulmonar agudo",
    "Radiografía de tórax normal",
    "Sin signos de enfermedad aguda",
    "Pulmones limpios sin alteraciones agudas",
)
VOLUME = {
    "low": ("Los volúmenes pulmonares son bajos", "Escaso volumen inspiratorio"),
    "normal": ("Los volúmenes pulmonares son normales", "Los pulmones están bien expandidos"),
    "large": ("Los pulmones están hiperinsuflados", "Volúmenes pulmonares altos con diafragma aplanado"),
}
AORTA = {True: ("El botón aórtico es prominente", "Cayado aórtico dilatado"), False: ("El contorno aórtico es normal",)}
SCOLIOSIS = ("Escoliosis de la columna torácica hacia la {side_a}", "La columna torácica se curva hacia la {side_a}")
RAISED = ("El hemidiafragma {side} está elevado", "Elevación del hemidiafragma {side}")
BREASTS = ("Las sombras mamarias se superponen a los campos inferiores", "Se aprecia tejido mamario superpuesto")
BONES = ("Sin lesiones óseas agudas", "La caja torácica está íntegra", "Leves cambios degenerativos de la columna")
VIEW = ("Se realizó una proyección frontal del tórax", "Radiografía frontal única", "Radiografía portátil de tórax")
PRIOR = {
    False: ("No se dispone de un estudio previo para comparar",),
    True: ("Se compara con el estudio previo", "Se revisó la radiografía previa"),
}


def _feminine(words: object) -> str:
    return re.sub(r"o\b", "a", str(words))


FEMININE = [_feminine([SIZE, ZONE, [TERMS[name] for name in (*SIDES, *ZONES, *SIZES, *PATTERNS)]])]  # vocabulary


def fill(template: str, slots: Mapping[str, object]) -> str:
    """A wording with its slots filled, each in the gender that its name asks for."""
    return template.format(**slots, **{f"{name}_a": _feminine(value) for name, value in slots.items()})
