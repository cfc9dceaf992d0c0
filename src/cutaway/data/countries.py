"""Countries and what is generally known of them: public facts, compiled by hand for this project.

Capitals of several words, and ones that are contested or about to change, are left out, as are languages,
continents and currencies of which there is more than one. Where a name has two spellings in use, both are
given.
"""

from __future__ import annotations

from dataclasses import dataclass

SOURCE = "public facts, compiled for Cutaway (cutaway.data.countries)"


@dataclass(frozen=True)
class Country:
    """One row of the table; an empty tuple is "not said here"."""

    name: str
    capital: tuple[str, ...]
    language: tuple[str, ...]
    continent: tuple[str, ...]
    currency: tuple[str, ...]


# country: capital, language, continent, currency ("-": not said here; "/": both are right)
_TABLE = """
Afghanistan: Kabul, -, Asia, afghani
Albania: Tirana, Albanian, Europe, lek
Algeria: Algiers, Arabic, Africa, dinar
Angola: Luanda, Portuguese, Africa, kwanza
Argentina: -, Spanish, South America, peso
Armenia: Yerevan, Armenian, -, dram
Australia: Canberra, English, -, dollar
Austria: Vienna, German, Europe, euro
Bangladesh: Dhaka, Bengali, Asia, taka
Belgium: Brussels, -, Europe, euro
Botswana: Gaborone, -, Africa, pula
Brazil: -, Portuguese, South America, real
Bulgaria: Sofia, Bulgarian, Europe, -
Cambodia: -, Khmer, Asia, riel
Canada: Ottawa, -, North America, dollar
Chile: Santiago, Spanish, South America, peso
China: Beijing, Chinese/Mandarin, Asia, yuan
Colombia: Bogotá/Bogota, Spanish, South America, peso
Croatia: Zagreb, Croatian, Europe, euro
Cuba: Havana, Spanish, -, peso
Denmark: Copenhagen, Danish, Europe, krone
Ecuador: Quito, Spanish, South America, dollar
Egypt: Cairo, Arabic, Africa, pound
England: London, English, Europe, pound
Estonia: Tallinn, Estonian, Europe, euro
Ethiopia: -, Amharic, Africa, birr
Finland: Helsinki, -, Europe, euro
France: Paris, French, Europe, euro
Germany: Berlin, German, Europe, euro
Ghana: Accra, English, Africa, cedi
Greece: Athens, Greek, Europe, euro
Honduras: Tegucigalpa, Spanish, -, lempira
Hungary: Budapest, Hungarian, Europe, forint
Iceland: Reykjavik, Icelandic, Europe, -
India: -, -, Asia, rupee
Indonesia: -, Indonesian, Asia, rupiah
Iran: Tehran, Persian/Farsi, Asia, rial
Iraq: Baghdad, -, Asia, dinar
Ireland: Dublin, -, Europe, euro
Israel: -, Hebrew, Asia, shekel
Italy: Rome, Italian, Europe, euro
Jamaica: Kingston, English, -, dollar
Japan: Tokyo, Japanese, Asia, yen
Jordan: Amman, Arabic, Asia, dinar
Kenya: Nairobi, -, Africa, shilling
Laos: Vientiane, Lao, Asia, kip
Latvia: Riga, Latvian, Europe, euro
Lebanon: Beirut, Arabic, Asia, pound
Libya: Tripoli, Arabic, Africa, dinar
Lithuania: Vilnius, Lithuanian, Europe, euro
Mali: Bamako, -, Africa, franc
Mexico: -, Spanish, North America, peso
Mongolia: Ulaanbaatar, Mongolian, Asia, -
Morocco: Rabat, -, Africa, dirham
Mozambique: Maputo, Portuguese, Africa, metical
Namibia: Windhoek, English, Africa, dollar
Nepal: Kathmandu, Nepali, Asia, rupee
Nicaragua: Managua, Spanish, -, -
Nigeria: Abuja, English, Africa, naira
Norway: Oslo, Norwegian, Europe, krone
Oman: Muscat, Arabic, Asia, rial
Pakistan: Islamabad, -, Asia, rupee
Peru: Lima, -, South America, sol
Poland: Warsaw, Polish, Europe, zloty
Portugal: Lisbon, Portuguese, Europe, euro
Qatar: Doha, Arabic, Asia, riyal
Romania: Bucharest, Romanian, Europe, leu
Russia: Moscow, Russian, -, ruble
Rwanda: Kigali, -, Africa, franc
Scotland: Edinburgh, -, Europe, pound
Senegal: Dakar, French, Africa, franc
Serbia: Belgrade, Serbian, Europe, dinar
Slovakia: Bratislava, Slovak, Europe, euro
Slovenia: Ljubljana, Slovene/Slovenian, Europe, euro
Somalia: Mogadishu, -, Africa, shilling
Spain: Madrid, Spanish, Europe, euro
Sudan: Khartoum, -, Africa, pound
Sweden: Stockholm, Swedish, Europe, krona
Switzerland: Bern, -, Europe, franc
Syria: Damascus, Arabic, Asia, pound
Thailand: Bangkok, Thai, Asia, baht
Tunisia: Tunis, Arabic, Africa, dinar
Turkey: Ankara, Turkish, -, lira
Uganda: Kampala, -, Africa, shilling
Ukraine: Kyiv/Kiev, Ukrainian, Europe, -
Uruguay: Montevideo, Spanish, South America, peso
Venezuela: Caracas, Spanish, South America, -
Vietnam: Hanoi, Vietnamese, Asia, dong
Wales: Cardiff, -, Europe, pound
Zambia: Lusaka, English, Africa, kwacha
Zimbabwe: Harare, -, Africa, -
"""


def _country(line: str) -> Country:
    name, facts = line.split(": ")
    capital, language, continent, currency = (
        () if fact == "-" else tuple(fact.split("/")) for fact in facts.split(", ")
    )
    return Country(name, capital, language, continent, currency)


COUNTRIES: tuple[Country, ...] = tuple(_country(line) for line in _TABLE.strip().splitlines())
