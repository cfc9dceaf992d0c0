"""Which meaning has the word here? Sentences written for the project, in which one word has one of two meanings.

Twelve nouns, two meanings each, six sentences for each meaning. No two sentences share a frame, so that what tells
the meanings apart is the rest of the sentence and not a template.
Limits: the meanings are far apart (the bank of a river, the bank with the money), which is easier than a dictionary's.
"""

from __future__ import annotations

from collections.abc import Mapping


def _lines(text: str) -> tuple[str, ...]:
    return tuple(line.strip() for line in text.strip().splitlines())


SENSES: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "bank": {
        "river": _lines("""
            They sat on the bank and let their feet hang into the water.
            Trees had fallen from the muddy bank during the flood.
            A heron stood motionless near the bank of the stream.
            We pulled the canoe up onto the grassy bank.
            Otters dig their dens into the bank below the old mill.
            The children threw pebbles from the bank into the river.
        """),
        "money": _lines("""
            She opened a savings account at the bank last week.
            The bank refused to lend him more money.
            Thieves broke into the vault of the bank at night.
            My salary is paid into the bank every month.
            Interest rates were raised again by the central bank.
            He works as a cashier in a large bank downtown.
        """),
    },
    "bat": {
        "animal": _lines("""
            A bat hung upside down in the dark cave.
            The bat finds insects by listening for echoes.
            At dusk a tiny bat fluttered around the church tower.
            Wings of skin carry the bat through the night.
            The vampire bat feeds on the blood of cattle.
            Researchers released the bat after measuring its wings.
        """),
        "club": _lines("""
            He swung the bat and hit the ball out of the park.
            The player broke his wooden bat in the first inning.
            Hold the bat with both hands and watch the pitcher.
            She bought a new bat for cricket practice.
            The crowd cheered as he dropped the bat and ran to first base.
            Aluminum is lighter than ash for a baseball bat.
        """),
    },
    "crane": {
        "bird": _lines("""
            A white crane waded through the shallow marsh.
            The crane spread its wings and danced for its mate.
            Every autumn the crane flies south with its flock.
            With its long beak the crane caught a frog.
            The nest of the crane lay hidden among the reeds.
            Feathers from a crane floated on the pond.
        """),
        "machine": _lines("""
            The crane lifted steel beams to the top of the building.
            A worker climbed into the cabin of the crane.
            Containers are unloaded from the ship by a crane.
            The construction site rented a taller crane.
            Strong wind made the crane too dangerous to operate.
            The hook of the crane hung above the concrete.
        """),
    },
    "spring": {
        "season": _lines("""
            The flowers in the garden bloom in spring.
            After a long winter everyone was waiting for spring.
            Birds build their nests early in spring.
            We plant our tomatoes late in spring.
            The semester ends in spring, before the summer holidays.
            Snow fell again in the first weeks of spring.
        """),
        "coil": _lines("""
            The mattress squeaked because a spring was broken.
            A steel spring pushes the pen back into its case.
            The mechanic replaced the worn spring of the suspension.
            Wind up the spring of the clock every morning.
            The spring stretches in proportion to the force.
            A tiny metal spring jumped out of the toy.
        """),
    },
    "mouse": {
        "animal": _lines("""
            The cat chased a mouse across the kitchen.
            A mouse had eaten the cheese in the pantry.
            The owl caught a small brown mouse in the field.
            The mouse squeaked and vanished into its hole.
            Scientists fed the mouse a diet rich in fat.
            Behind the barn a mouse nursed her young.
        """),
        "device": _lines("""
            Click the left button of the mouse to open the file.
            She plugged the mouse into the laptop.
            The cursor follows the movement of the mouse.
            A wireless mouse needs new batteries.
            He bought a keyboard and a mouse for his computer.
            Scroll down the page with the wheel of the mouse.
        """),
    },
    "match": {
        "game": _lines("""
            Our team won the match in the last minute.
            The referee stopped the match because of rain.
            Thousands of fans watched the football match.
            She lost the tennis match in two sets.
            The coach was angry after the match.
            They played the final match of the tournament on Sunday.
        """),
        "fire": _lines("""
            He struck a match and lit the candle.
            The match burned down to his fingers.
            She held a match to the dry wood.
            A single match started the forest fire.
            Keep the match away from the gas stove.
            The wet match would not light his cigarette.
        """),
    },
    "seal": {
        "animal": _lines("""
            A seal dived under the ice to hunt fish.
            The seal lay on the rocks in the sun.
            A young seal with white fur called for its mother.
            The zoo keeper threw a herring to the seal.
            Polar bears wait at the hole for a seal.
            The seal swam around our boat in the bay.
        """),
        "stamp": _lines("""
            The letter was closed with a red wax seal.
            The king pressed his seal onto the document.
            Without the official seal the certificate is not valid.
            The notary put her seal beside the signature.
            An unbroken seal proves that nobody read the treaty.
            The royal seal showed a lion and a crown.
        """),
    },
    "palm": {
        "tree": _lines("""
            A tall palm grew beside the beach.
            The monkey climbed the palm to get a coconut.
            The leaves of the palm swayed in the tropical wind.
            We rested in the shade of a palm in the oasis.
            The storm uprooted a palm on the island.
            Dates grow in clusters below the crown of the palm.
        """),
        "hand": _lines("""
            She held the coin in her palm and closed her fingers.
            The fortune teller read the lines of my palm.
            His palm was sweaty when they shook hands.
            He slapped the table with his palm.
            A splinter was stuck in the palm of her left hand.
            The nurse cleaned the cut across his palm.
        """),
    },
    "organ": {
        "body": _lines("""
            The heart is the organ that pumps the blood.
            The patient waited years for a donor organ.
            The surgeon removed the diseased organ.
            The liver is the largest internal organ.
            Skin is an organ that protects us from infection.
            The immune system may reject a transplanted organ.
        """),
        "music": _lines("""
            She played a hymn on the organ in church.
            The pipes of the organ filled the cathedral with sound.
            Bach wrote many fugues for the organ.
            The organ has three keyboards and a row of pedals.
            A wedding march was heard from the organ.
            He studied piano and organ at the conservatory.
        """),
    },
    "plant": {
        "factory": _lines("""
            The plant produces two thousand cars a day.
            Workers at the plant went on strike for higher wages.
            The company closed its steel plant in the north.
            The nuclear plant was shut down for repairs.
            Smoke rose from the chimneys of the plant.
            The manager of the plant hired forty engineers.
        """),
        "vegetation": _lines("""
            Water the plant twice a week and give it light.
            The plant has green leaves and yellow flowers.
            The roots of the plant grow deep into the soil.
            A rare plant was found in the meadow.
            The plant withered because nobody watered it.
            Bees carry pollen from plant to plant.
        """),
    },
    "bark": {
        "tree": _lines("""
            The bark of the birch is white and thin.
            Beetles live under the bark of old oaks.
            He carved her name into the bark.
            Deer eat the bark of young trees in winter.
            The rough bark scratched her arms as she climbed.
            Cork is made from the bark of an oak.
        """),
        "dog": _lines("""
            The bark of the dog woke the neighbours.
            A loud bark came from behind the fence.
            The puppy answered with a high bark.
            We heard a growl and then a bark at the door.
            The bark of the hounds followed the fox.
            His bark frightens the postman every morning.
        """),
    },
    "cell": {
        "prison": _lines("""
            The prisoner paced up and down in his cell.
            Guards locked the cell at nine in the evening.
            He shared a cell with two convicted thieves.
            The window of the cell had iron bars.
            She spent the night in a police cell after her arrest.
            The inmate dug a tunnel beneath his cell.
        """),
        "biology": _lines("""
            The nucleus of the cell contains the genes.
            A virus enters the cell through its membrane.
            The cell divides into two identical daughters.
            Under the microscope we saw a single blood cell.
            Proteins are produced inside the cell.
            The nerve cell sends signals to the muscle.
        """),
    },
}
